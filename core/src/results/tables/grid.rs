//! A table in words, and the formats that are made of words.

use super::Cell;

/// A table in words. Groups of rows are separated by a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The columns' names.
    pub header: Vec<String>,
    /// The rows, in groups.
    pub groups: Vec<Vec<Vec<GridCell>>>,
    /// Sentences to print below.
    pub notes: Vec<String>,
}

/// A cell in words.
#[derive(Clone, Debug, PartialEq)]
pub struct GridCell {
    /// What stands there.
    pub words: String,
    /// The number that is compared with others, in hundredths, as it's printed: what looks alike ranks alike.
    hundredths: Option<i64>,
    /// Whether it's an average that lacks jobs: it may be over other data sets than the others of its column.
    lacks_jobs: bool,
    /// Its place among those that it's compared with, as papers mark it.
    pub rank: Option<Rank>,
}

/// A place that papers mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// In bold.
    Best,
    /// Underlined.
    Second,
}

impl<S: Into<String>> From<S> for GridCell {
    /// Words that are compared with nothing.
    fn from(words: S) -> Self {
        Self { words: words.into(), hundredths: None, lacks_jobs: false, rank: None }
    }
}

impl GridCell {
    /// Words with the number in them.
    pub(super) fn number(words: String, number: Option<f64>) -> Self {
        let hundredths = number.map(|number| (number * 100.0).round() as i64);
        Self { words, hundredths, lacks_jobs: false, rank: None }
    }

    /// A cell of the table.
    pub(super) fn of(cell: &Cell, is_average: bool) -> Self {
        let number = Self::number(cell.words(), cell.summary.map(|summary| summary.mean));
        number.lacking(is_average && !cell.is_final())
    }

    /// The same of an average that lacks jobs, if it does.
    pub(super) fn lacking(self, lacks_jobs: bool) -> Self {
        Self { lacks_jobs, ..self }
    }
}

/// Ranks cells among each other, if there are several numbers. Among averages of which one lacks jobs, nobody is known to be the best:
/// then none is ranked, and this is `true`.
fn rank<'a>(cells: impl Iterator<Item = &'a mut GridCell>) -> bool {
    let cells: Vec<_> = cells.filter(|cell| cell.hundredths.is_some() || cell.lacks_jobs).collect();
    if cells.len() < 2 {
        return false;
    }
    if cells.iter().any(|cell| cell.lacks_jobs) {
        return true;
    }
    let best = cells.iter().filter_map(|cell| cell.hundredths).max();
    let second = cells.iter().filter_map(|cell| cell.hundredths).filter(|number| Some(*number) < best).max();
    for cell in cells {
        cell.rank = match cell.hundredths {
            number if number == best => Some(Rank::Best),
            number if number == second => Some(Rank::Second),
            _ => None,
        };
    }
    false
}

/// What is said where [`rank`] leaves averages alone.
const UNRANKED: &str =
    "Best and second aren't marked among averages of which one lacks jobs: they may be over different data sets.";

impl Grid {
    /// Ranks the cells of each column of each group: rows are methods.
    pub(super) fn ranked_down(mut self) -> Self {
        let mut unranked = false;
        for group in &mut self.groups {
            for column in 0..self.header.len() {
                unranked |= rank(group.iter_mut().filter_map(|row| row.get_mut(column)));
            }
        }
        self.notes.extend(unranked.then(|| UNRANKED.to_owned()));
        self
    }

    /// Ranks the cells of each row: columns are methods.
    pub(super) fn ranked_across(mut self) -> Self {
        let mut unranked = false;
        for row in self.groups.iter_mut().flatten() {
            unranked |= rank(row.iter_mut());
        }
        self.notes.extend(unranked.then(|| UNRANKED.to_owned()));
        self
    }

    pub(super) fn markdown(&self) -> String {
        let escaped = |words: &str| words.replace('|', "\\|");
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let header: Vec<_> = self.header.iter().map(|words| escaped(words)).collect();
        let mut text = line(&header);
        text.push_str(&line(&self.header.iter().map(|_| "---".to_owned()).collect::<Vec<_>>()));
        for row in self.groups.iter().flatten() {
            let cells = row.iter().map(|cell| match cell.rank {
                None => escaped(&cell.words),
                Some(Rank::Best) => format!("**{}**", escaped(&cell.words)),
                Some(Rank::Second) => format!("<u>{}</u>", escaped(&cell.words)),
            });
            text.push_str(&line(&cells.collect::<Vec<_>>()));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    pub(super) fn latex(&self) -> String {
        let line = |cells: &[String]| format!("{} \\\\\n", cells.join(" & "));
        let header: Vec<_> = self.header.iter().map(|words| latex_text(words)).collect();
        let numbers = self.header.len().saturating_sub(2);
        let mut text = format!("\\begin{{tabular}}{{ll{}}}\n\\toprule\n{}", "c".repeat(numbers), line(&header));
        for group in &self.groups {
            text.push_str("\\midrule\n");
            for row in group {
                let cells = row.iter().map(|cell| match cell.rank {
                    None => latex_text(&cell.words),
                    Some(Rank::Best) => format!("\\textbf{{{}}}", latex_text(&cell.words)),
                    Some(Rank::Second) => format!("\\underline{{{}}}", latex_text(&cell.words)),
                });
                text.push_str(&line(&cells.collect::<Vec<_>>()));
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

    #[test]
    fn best_and_second_are_marked_as_papers_do() {
        let cell = |mean: f64| GridCell::number(format!("{mean:.2}"), Some(mean));
        let rows = |means: &[f64]| means.iter().map(|mean| vec![GridCell::from("m"), cell(*mean)]).collect();
        let groups = vec![rows(&[80.0, 82.001, 81.0, 81.996]), rows(&[90.0]), vec![vec!["m".into(), "–".into()]]];
        let grid = Grid { header: vec!["Method".into(), "A".into()], groups, notes: Vec::new() };
        let ranks = |grid: &Grid| -> Vec<Vec<_>> {
            grid.groups.iter().map(|group| group.iter().map(|row| row[1].rank).collect()).collect()
        };
        let down = grid.clone().ranked_down();
        // 82.001 and 81.996 are both printed as 82.00; the only number of a group is not the best of anything.
        assert_eq!(
            ranks(&down),
            [vec![None, Some(Rank::Best), Some(Rank::Second), Some(Rank::Best)], vec![None], vec![None]]
        );
        assert_eq!(ranks(&grid.clone().ranked_across()).concat(), [None; 6]);
        assert_eq!(down.notes, [""; 0]);
        let markdown = down.markdown();
        assert!(markdown.contains("| m | **82.00** |\n| m | <u>81.00</u> |\n"), "{markdown}");
        let latex = down.latex();
        assert!(latex.contains("m & \\textbf{82.00} \\\\\nm & \\underline{81.00} \\\\\n"), "{latex}");
    }
}
