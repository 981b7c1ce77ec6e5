-- What a result says besides its rates: the calibration error, and the numbers by class with the confusion matrix. Results of
-- earlier versions, and of output folders that another tool completed, have neither.

ALTER TABLE result ADD COLUMN calibration_error REAL;

-- Its document is only ever read whole.
ALTER TABLE result ADD COLUMN evaluation TEXT CHECK (json_valid(evaluation));
