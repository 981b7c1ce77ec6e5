//! A table in words, and the formats that are made of words.

/// A table in words. Groups of rows are separated by a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The columns' names.
    pub header: Vec<String>,
    /// The rows, in groups.
    pub groups: Vec<Vec<Vec<String>>>,
    /// Sentences to print below.
    pub notes: Vec<String>,
}

impl Grid {
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.header);
        text.push_str(&line(&self.header.iter().map(|_| "---".to_owned()).collect::<Vec<_>>()));
        for row in self.groups.iter().flatten() {
            text.push_str(&line(row));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    pub(super) fn latex(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| latex_text(cell)).collect();
            format!("{} \\\\\n", cells.join(" & "))
        };
        let numbers = self.header.len().saturating_sub(2);
        let mut text = format!("\\begin{{tabular}}{{ll{}}}\n\\toprule\n{}", "c".repeat(numbers), line(&self.header));
        for group in &self.groups {
            text.push_str("\\midrule\n");
            for row in group {
                text.push_str(&line(row));
            }
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        for note in &self.notes {
            text.push_str(&format!("% {note}\n"));
        }
        text
    }
}

fn latex_text(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '±' => "$\\pm$".to_owned(),
            '–' => "--".to_owned(),
            '−' => "$-$".to_owned(),
            '\\' => "\\textbackslash{}".to_owned(),
            '~' => "\\textasciitilde{}".to_owned(),
            '^' => "\\textasciicircum{}".to_owned(),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latex_escapes_what_it_must() {
        assert_eq!(latex_text("a_b & 50% ± 1 –"), "a\\_b \\& 50\\% $\\pm$ 1 --");
    }
}
