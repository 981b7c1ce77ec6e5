//! A job's numbers by class: `evaluation.json` of an output folder, and `GET /jobs/{id}/evaluation`.
//!
//! The confusion matrix is kept as sparse rows: of a class, only the classes that it was taken for and how often. Its diagonal
//! is what was correct, so a document is as long as the errors are many: some 100 kB for `ImageNet`'s 50,000 images and 1000
//! classes.

use serde::{Deserialize, Serialize};

use crate::input::{InvalidInput, from_json};
use crate::job::outcome::TestResult;

/// The test images of a job by their class, and by the class that each was taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evaluation {
    /// The layout of this document; now [`Evaluation::FORMAT`].
    pub format: u32,
    /// The classes that were told apart; a class's label is its place.
    pub classes: Vec<ClassCounts>,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClassCounts {
    /// Its name.
    pub name: String,
    /// Test images of the class.
    pub images: u64,
    /// Test images that were taken for the class.
    pub predicted: u64,
    /// Test images of the class that were taken for it.
    pub correct: u64,
    /// The other classes that its images were taken for: label and images, labels rising.
    pub confused: Vec<(u32, u64)>,
}

impl ClassCounts {
    /// 100·correct/images; `None` for a class without test images.
    pub fn accuracy(&self) -> Option<f64> {
        (self.images > 0).then(|| 100.0 * self.correct as f64 / self.images as f64)
    }

    /// The other class that its images were most often taken for, the first of several: label and images.
    pub fn most_confused(&self) -> Option<(u32, u64)> {
        let first_most = |most: (u32, u64), next: (u32, u64)| if next.1 > most.1 { next } else { most };
        self.confused.iter().copied().reduce(first_most)
    }
}

impl Evaluation {
    /// The document's current layout.
    pub const FORMAT: u32 = 1;

    /// Reads the document of an output folder.
    pub fn parse(text: &str) -> Result<Self, InvalidInput> {
        from_json(text)
    }

    /// The document of an output folder: a class a line.
    pub fn to_text(&self) -> String {
        let line = |class: &ClassCounts| {
            let ClassCounts { name, images, predicted, correct, confused } = class;
            let (name, confused) = (serde_json::json!(name), serde_json::json!(confused));
            format!(
                "{{\"name\":{name},\"images\":{images},\"predicted\":{predicted},\"correct\":{correct},\"confused\":{confused}}}"
            )
        };
        let lines: Vec<String> = self.classes.iter().map(line).collect();
        format!("{{\"format\":{},\"classes\":[\n{}\n]}}\n", self.format, lines.join(",\n"))
    }

    /// Checks that the counts agree with each other and with the job's numbers.
    pub fn check(&self, result: &TestResult) -> Result<(), InvalidInput> {
        if self.format != Self::FORMAT {
            return Err(InvalidInput::new("format", self.format, Self::FORMAT.to_string()));
        }
        let mut taken_for: Vec<u64> = self.classes.iter().map(|class| class.correct).collect();
        for (label, class) in self.classes.iter().enumerate() {
            let field = |name: &str| format!("classes[{label}].{name}");
            let mut least = 0;
            for (i, &(other, images)) in class.confused.iter().enumerate() {
                let Some(predicted) = taken_for.get_mut(other as usize).filter(|_| other as usize != label) else {
                    let expected = format!("the label of another class, below {}", self.classes.len());
                    return Err(InvalidInput::new(field(&format!("confused[{i}][0]")), other, expected));
                };
                if other < least {
                    return Err(InvalidInput::new(field(&format!("confused[{i}][0]")), other, "rising labels"));
                }
                if images == 0 {
                    return Err(InvalidInput::new(field(&format!("confused[{i}][1]")), images, "at least one image"));
                }
                *predicted = predicted.saturating_add(images);
                least = other + 1;
            }
            let images = sum(class.confused.iter().map(|(_, images)| *images)).saturating_add(class.correct);
            agree(&field("images"), class.images, images, "the sum of `correct` and `confused`")?;
        }
        for (label, (class, &predicted)) in self.classes.iter().zip(&taken_for).enumerate() {
            let field = format!("classes[{label}].predicted");
            agree(&field, class.predicted, predicted, "the images that were taken for the class")?;
        }
        let total = |count: fn(&ClassCounts) -> u64| sum(self.classes.iter().map(count));
        agree(
            "classes",
            total(|class| class.images),
            result.total,
            "the images of all classes, `total` of the result",
        )?;
        agree("classes", total(|class| class.correct), result.correct, "the correct ones, `correct` of the result")
    }
}

/// Counts from outside may be anything.
fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn agree(field: &str, found: u64, right: u64, what: &str) -> Result<(), InvalidInput> {
    if found == right { Ok(()) } else { Err(InvalidInput::new(field, found, format!("{right}, {what}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, [images, predicted, correct]: [u64; 3], confused: &[(u32, u64)]) -> ClassCounts {
        ClassCounts { name: name.into(), images, predicted, correct, confused: confused.to_vec() }
    }

    /// Three llamas of which one was taken for a car and one for a star; two cars; no star.
    fn evaluation() -> Evaluation {
        let classes = vec![
            class("llama", [3, 1, 1], &[(1, 1), (2, 1)]),
            class("a \"car\"", [2, 3, 2], &[]),
            class("star", [0, 1, 0], &[]),
        ];
        Evaluation { format: Evaluation::FORMAT, classes }
    }

    fn result(total: u64, correct: u64) -> TestResult {
        TestResult { total, correct, accuracy: 0.0, error: 0.0, macro_f1: 0.0, calibration_error: None }
    }

    #[test]
    fn the_document_has_a_class_a_line_and_comes_back() {
        let text = evaluation().to_text();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                r#"{"format":1,"classes":["#,
                r#"{"name":"llama","images":3,"predicted":1,"correct":1,"confused":[[1,1],[2,1]]},"#,
                r#"{"name":"a \"car\"","images":2,"predicted":3,"correct":2,"confused":[]},"#,
                r#"{"name":"star","images":0,"predicted":1,"correct":0,"confused":[]}"#,
                "]}"
            ]
        );
        assert_eq!(Evaluation::parse(&text).unwrap(), evaluation());
        assert_eq!(Evaluation::parse("{\"format\":1}").unwrap_err().errors[0].field, "classes");
    }

    #[test]
    fn a_class_has_its_accuracy_and_its_most_frequent_confusion() {
        let [llama, car, star] = &evaluation().classes[..] else { panic!() };
        assert!((llama.accuracy().unwrap() - 100.0 / 3.0).abs() < 1e-12);
        assert_eq!((car.accuracy(), star.accuracy()), (Some(100.0), None));
        assert_eq!((llama.most_confused(), car.most_confused()), (Some((1, 1)), None));
        assert_eq!(class("x", [9, 2, 2], &[(1, 1), (4, 3), (5, 3)]).most_confused(), Some((4, 3)));
    }

    #[test]
    fn counts_that_do_not_agree_name_their_field() {
        evaluation().check(&result(5, 3)).unwrap();
        let refused = |change: fn(&mut Evaluation), result: TestResult| {
            let mut evaluation = evaluation();
            change(&mut evaluation);
            evaluation.check(&result).unwrap_err().errors.remove(0)
        };
        for (change, field, right) in [
            ((|e| e.format = 2) as fn(&mut Evaluation), "format", "1"),
            (|e| e.classes[0].images = 4, "classes[0].images", "3, the sum"),
            (|e| e.classes[1].predicted = 2, "classes[1].predicted", "3, the images"),
            (|e| e.classes[0].confused[1].0 = 3, "classes[0].confused[1][0]", "below 3"),
            (|e| e.classes[0].confused[0].0 = 0, "classes[0].confused[0][0]", "another class"),
            (|e| e.classes[0].confused.swap(0, 1), "classes[0].confused[1][0]", "rising"),
            (|e| e.classes[0].confused[0].1 = 0, "classes[0].confused[0][1]", "at least one"),
            (|e| e.classes[0].confused[0].1 = u64::MAX, "classes[0].images", "the sum"),
        ] {
            let error = refused(change, result(5, 3));
            assert_eq!(error.field, field);
            assert!(error.expected.contains(right), "{error}");
        }
        assert!(refused(|_| {}, result(6, 3)).to_string().contains("`5` is not valid: expected 6, the images"));
        assert!(refused(|_| {}, result(5, 4)).to_string().contains("`3` is not valid: expected 4, the correct"));
    }

    #[test]
    fn imagenet_s_document_is_small() {
        // A third of the images is wrong, each in a cell of its own.
        let (classes, each, wrong) = (1000_u32, 50, 17);
        let class = |label: u32| {
            let mut confused: Vec<_> = (1..=wrong).map(|i| ((label + 31 * i) % classes, 1)).collect();
            confused.sort_unstable();
            let (images, correct) = (u64::from(each), u64::from(each - wrong));
            ClassCounts { name: "yellow garden spider".into(), images, predicted: images, correct, confused }
        };
        let evaluation = Evaluation { format: Evaluation::FORMAT, classes: (0..classes).map(class).collect() };
        evaluation.check(&result(50_000, 33_000)).unwrap();
        assert!(evaluation.to_text().len() < 300_000, "{}", evaluation.to_text().len());
    }
}
