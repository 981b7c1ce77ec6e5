//! Output folders (method.md, section 7), kept exactly so that existing tools find their runs.

use crate::job::outcome::TestResult;
use crate::job::spec::JobSpec;
use crate::method::{Method, Methods};
use crate::protocol::{Protocol, Stage};

/// The checkpoint inside the folder that its method's declaration names.
pub const CHECKPOINT_FILE: &str = "model.safetensors";
/// The document that makes a folder complete.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The numbers by class, a [`crate::job::evaluation::Evaluation`].
pub const EVALUATION_FILE: &str = "evaluation.json";
/// The log that people's parsers read.
pub const LOG_FILE: &str = "log.txt";
/// In a folder that is worked on: what it is being made of, an [`crate::job::unfinished::Origin`].
pub const ORIGIN_FILE: &str = "origin.json";
/// In a folder that is worked on: the state after the last epoch, see [`crate::job::unfinished::Reached`].
pub const STATE_FILE: &str = "state.safetensors";
/// In a folder that is worked on: held by who works there; says which process it is.
pub const LOCK_FILE: &str = ".lock";
/// What a folder's name ends in while it is worked on.
pub const PARTIAL_SUFFIX: &str = ".partial";

/// The job's folder below the output root, parts separated by `/`.
///
/// The folder of the base classes' number is `train_base` for every method, since that's where parsers look for it.
pub fn folder(spec: &JobSpec, methods: &Methods) -> String {
    let JobSpec { dataset, shots, config, seed, .. } = spec;
    let trainer = methods.get(spec.method).map_or(spec.method.key(), |known| &known.folder);
    let run = match spec.protocol {
        Protocol::FewShot => return format!("few_shot/{dataset}/shots_{shots}/{trainer}/{config}/seed{seed}"),
        Protocol::BaseToNew | Protocol::CrossDataset => match spec.stage {
            Stage::Train => "train_base",
            Stage::Test => "test_new",
        },
    };
    format!("base2new/{run}/{dataset}/shots_{shots}/{trainer}/{config}/seed{seed}")
}

/// The checkpoint of a method below the folder of its training, parts separated by `/`; `None` for a method that isn't known.
pub fn checkpoint(method: Method, methods: &Methods) -> Option<String> {
    Some(format!("{}/{CHECKPOINT_FILE}", methods.get(method)?.checkpoint_folder))
}

/// The result that a `log.txt` ends with, written by this trainer or by another tool; `None` without a `=> result` block.
pub fn parse_log_result(log: &str) -> Option<TestResult> {
    let (_, block) = log.rsplit_once("=> result")?;
    let number = |name: &str| -> Option<f64> {
        let line =
            block.lines().find_map(|line| line.trim().strip_prefix("* ")?.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches('%').replace(',', "").parse().ok()
    };
    let (total, correct) = (number("total")?, number("correct")?);
    if total < 1.0 || correct > total {
        return None;
    }
    let accuracy = 100.0 * correct / total;
    Some(TestResult {
        total: total as u64,
        correct: correct as u64,
        accuracy,
        error: 100.0 - accuracy,
        macro_f1: number("macro_f1")?,
        calibration_error: number("ece"),
    })
}

/// The result of a `log.txt` that another tool left of a whole run on `images` test images; otherwise what is wrong with it, as the
/// rest of a sentence that begins with the log.
///
/// The words are Dassl's (field.md, section 1.4): a training says `Finish training` before it tests, and every evaluation says
/// which set it is on.
pub fn foreign_result(log: &str, images: usize) -> Result<TestResult, String> {
    let result = parse_log_result(log).ok_or_else(|| "holds no result".to_owned())?;
    let before = log.rsplit_once("=> result").map_or(log, |(before, _)| before);
    let trains = log.lines().any(|line| line.trim_start().starts_with("epoch ["));
    if trains && !before.contains("Finish training") {
        return Err("says nothing of `Finish training` before its result: the run was broken off".to_owned());
    }
    let set = before.rsplit_once("Evaluate on the *").and_then(|(_, rest)| rest.split_once('*'));
    if let Some((set, _)) = set.filter(|(set, _)| *set != "test") {
        return Err(format!("ends with a result on the {set} set, not on the test set"));
    }
    if result.total != images as u64 {
        return Err(format!("has a result of {} images, and the split has {images} test images", result.total));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_other_tools_are_read() {
        let log = "epoch [1/1]\n=> result\n* total: 4,200\n* correct: 4,036\n* accuracy: 96.1%\n* error: 3.9%\n* macro_f1: 96.0%\n";
        let result = parse_log_result(log).unwrap();
        assert_eq!((result.total, result.correct, result.macro_f1), (4200, 4036, 96.0));
        assert_eq!(result.calibration_error, None);
        assert_eq!(parse_log_result(&format!("{log}* ece: 2.5%\n")).unwrap().calibration_error, Some(2.5));
        assert!((result.accuracy - 96.095_238).abs() < 1e-6);
    }

    #[test]
    fn another_tools_log_counts_only_if_its_run_ended_on_the_test_set() {
        let block = "=> result\n* total: 6\n* correct: 3\n* accuracy: 50.0%\n* macro_f1: 50.0%\n";
        let whole = format!("epoch [1/1]\nFinish training\nEvaluate on the *test* set\n{block}Elapsed: 0:00:01\n");
        assert_eq!(foreign_result(&whole, 6).unwrap().correct, 3);
        assert_eq!(foreign_result(&format!("Evaluate on the *test* set\n{block}"), 6).unwrap().correct, 3);
        for (log, images, why) in [
            (whole.clone(), 7, "6 images, and the split has 7"),
            (whole.replace("*test*", "*val*"), 6, "on the val set"),
            (whole.replace("Finish training\n", ""), 6, "broken off"),
            (format!("epoch [1/2]\nEvaluate on the *val* set\n{block}epoch [2/2]\nFinish training\n"), 6, "broken off"),
            ("epoch [1/2]\n".to_owned(), 6, "no result"),
        ] {
            let error = foreign_result(&log, images).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_log_without_a_result_is_not_complete() {
        assert_eq!(parse_log_result("epoch [1/10] batch [20/20]\n"), None);
        assert_eq!(parse_log_result("=> result\n* total: 0\n* correct: 0\n* macro_f1: 0%\n"), None);
    }
}
