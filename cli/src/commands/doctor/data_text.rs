//! A report on a data root for people: a table, and below it what is wrong and what to download.

use promptfield_core::wire::data_report::{DataReport, DataState, DatasetReport, ImageCheck};

use crate::output::{self, add};

/// The whole report.
pub(super) fn text(report: &DataReport) -> String {
    let mut text = format!("data sets in {}\n{}\n", report.data_root.display(), table(&report.datasets));
    text.push_str(match report.images {
        ImageCheck::Decoded => "Every image was decoded.\n",
        ImageCheck::Quick => {
            "Only the first bytes of each image were looked at; without --quick every image is decoded.\n"
        }
    });
    for dataset in &report.datasets {
        let details = details(dataset);
        if !details.is_empty() {
            text.push_str(&format!("\n{}: {}\n{details}", dataset.name, dataset.state));
        }
    }
    if !report.wrong_definitions.is_empty() {
        text.push_str("\ndata sets of your own that can't be used\n");
        lines(&mut text, &report.wrong_definitions);
    }
    text
}

fn table(datasets: &[DatasetReport]) -> String {
    const HEADER: [&str; 7] = ["Data set", "State", "Classes", "Train", "Val", "Test", "Unreadable"];
    let mut table = output::table(&HEADER);
    for dataset in datasets {
        let numbers = dataset.counts.map_or_else(
            || vec!["-".to_owned(); 5],
            |counts| {
                let numbers = [counts.classes, counts.train, counts.val, counts.test, dataset.unreadable.count];
                numbers.iter().map(ToString::to_string).collect()
            },
        );
        add(&mut table, [dataset.name.clone(), dataset.state.to_string()].into_iter().chain(numbers));
    }
    output::align_right(&mut table, 2..HEADER.len());
    table.trim_fmt()
}

/// What there is to say of a data set besides its row in the table.
fn details(dataset: &DatasetReport) -> String {
    let mut text = String::new();
    // Where an absent data set belongs is said with what to download for it.
    if dataset.state != DataState::Absent || dataset.sources.is_empty() {
        lines(&mut text, &dataset.problem);
    }
    if let (Some(counts), count @ 1..) = (dataset.counts, dataset.unreadable.count) {
        text.push_str(&format!("  {count} of {} images can't be read:\n", counts.images));
        for image in &dataset.unreadable.first {
            text.push_str(&format!("    {}\n", image.reason));
        }
        if let more @ 1.. = count.saturating_sub(dataset.unreadable.first.len()) {
            text.push_str(&format!("    and {more} more\n"));
        }
    }
    lines(&mut text, &dataset.remarks);
    if dataset.few_shot_pickles > 0 {
        let line = format!(
            "few-shot selections of other code (split_fewshot/*.pkl): {}; jobs with their shots and seeds take them",
            dataset.few_shot_pickles
        );
        lines(&mut text, [&line]);
    }
    let sources = dataset.to_download();
    if !sources.is_empty() {
        text.push_str(&format!("  download into {}:\n", dataset.folder.display()));
    }
    for source in sources {
        let note = source.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        text.push_str(&format!("    {}: {} → {}{note}\n", source.what, source.url, source.gives));
    }
    text
}

fn lines<'a>(text: &mut String, lines: impl IntoIterator<Item = &'a String>) {
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
}
