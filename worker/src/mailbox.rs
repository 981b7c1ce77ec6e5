//! Reports on leases, gathered.
//!
//! One request is under way at a time; whatever the slots have to say meanwhile goes with the next one. So a worker with many
//! slots costs the coordinator no more requests than one with a few, and nobody waits for a timer.

use promptfield_client::{Client, Error, REPORTS_CALL, Refusal};
use promptfield_core::id::LeaseId;
use promptfield_core::wire::api::{LeaseReport, MOST_REPORTS, Report, ReportAnswer, ReportAnswers, Reports};
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::{PATIENCE, Rejected};

/// About as many bytes as one request may have.
const MOST_BYTES: usize = 4 << 20;

/// Where reports are left. The task that delivers them ends when the last of these is gone.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    client: Client,
    letters: mpsc::UnboundedSender<Letter>,
}

#[derive(Debug)]
struct Letter {
    content: LeaseReport,
    answer: oneshot::Sender<Result<ReportAnswer, Error>>,
}

impl Mailbox {
    /// Starts the task that delivers.
    pub(crate) fn open(client: Client) -> Self {
        let (letters, waiting) = mpsc::unbounded_channel();
        tokio::spawn(deliver(client.clone(), waiting));
        Self { client, letters }
    }

    /// Leaves a report, and waits for its answer. A refusal is an error, as it is of the lease's own route.
    pub(crate) async fn send(&self, lease: LeaseId, report: Report) -> Result<ReportAnswer, Error> {
        let (answer, heard) = oneshot::channel();
        let gone = || unexpected("doesn't come: this worker is stopping");
        self.letters.send(Letter { content: LeaseReport { lease, report }, answer }).map_err(|_| gone())?;
        match heard.await.map_err(|_| gone())?? {
            ReportAnswer::Refused(problem) => {
                let refusal = Refusal::new(self.client.url().into(), REPORTS_CALL.to_owned(), problem);
                Err(Error::Refused(Box::new(refusal)))
            }
            answer => Ok(answer),
        }
    }
}

async fn deliver(client: Client, mut waiting: mpsc::UnboundedReceiver<Letter>) {
    let mut letters = Vec::new();
    while waiting.recv_many(&mut letters, MOST_REPORTS).await > 0 {
        while !letters.is_empty() {
            let rest = letters.split_off(fitting(&letters));
            post(&client, std::mem::replace(&mut letters, rest)).await;
        }
    }
}

/// How many of the letters fit into one request; at least one.
fn fitting(letters: &[Letter]) -> usize {
    let mut bytes = 0;
    let fit = letters.iter().take_while(|letter| {
        bytes += size(&letter.content.report);
        bytes <= MOST_BYTES
    });
    fit.count().max(1).min(letters.len())
}

/// About how many bytes a report has as JSON.
fn size(report: &Report) -> usize {
    match report {
        Report::Progress(report) => {
            let lines = report.log.iter().flat_map(|log| &log.lines).map(|line| 2 * line.len() + 3);
            500 + 1000 * report.metrics.len() + lines.sum::<usize>()
        }
        Report::Complete(report) => {
            let classes = report.evaluation.iter().flat_map(|evaluation| &evaluation.classes);
            4000 + classes.map(|class| 100 + class.name.len() + 16 * class.confused.len()).sum::<usize>()
        }
        Report::Fail(report) => 200 + 2 * report.failure.reason.len(),
        Report::Release(_) => 100,
    }
}

async fn post(client: &Client, letters: Vec<Letter>) {
    let (reports, answers): (Vec<LeaseReport>, Vec<_>) =
        letters.into_iter().map(|letter| (letter.content, letter.answer)).unzip();
    let reports = Reports { reports };
    let short = || unexpected("has not one answer for each report");
    match client.report(&reports).await {
        Ok(ReportAnswers { answers: heard }) if heard.len() == answers.len() => {
            for (answer, heard) in answers.into_iter().zip(heard) {
                // Who asked may be gone.
                let _ = answer.send(Ok(heard));
            }
        }
        // One report that the coordinator can't take must not cost the others theirs.
        Err(error) if answers.len() > 1 && is_refused(&error) => {
            for (report, answer) in reports.reports.into_iter().zip(answers) {
                let alone = client.report(&Reports { reports: vec![report] }).await;
                let _ = answer.send(alone.and_then(|answers| answers.answers.into_iter().next().ok_or_else(short)));
            }
        }
        Ok(_) => refuse_all(answers, &short()),
        Err(error) => refuse_all(answers, &error),
    }
}

/// Whether the coordinator can't take what was said, now or later.
fn is_refused(error: &Error) -> bool {
    !PATIENCE.covers(error) && matches!(Rejected::from(error.clone()), Rejected::Refused { .. })
}

fn unexpected(what: &str) -> Error {
    Error::Unexpected { call: REPORTS_CALL.to_owned(), what: what.to_owned() }
}

fn refuse_all(answers: Vec<oneshot::Sender<Result<ReportAnswer, Error>>>, error: &Error) {
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use promptfield_core::id::FencingToken;
    use promptfield_core::wire::api::{LogChunk, ProgressReport};

    use super::*;

    fn letter(bytes: usize) -> Letter {
        let log = LogChunk { first_line: 0, lines: vec!["x".repeat(bytes / 2)] };
        let report = ProgressReport { token: FencingToken(1), progress: None, metrics: Vec::new(), log: Some(log) };
        Letter {
            content: LeaseReport { lease: LeaseId(1), report: Report::Progress(report) },
            answer: oneshot::channel().0,
        }
    }

    #[test]
    fn what_may_pass_is_no_refusal_of_a_report() {
        let refused = |status| {
            let problem = serde_json::json!({ "type": "x", "title": "x", "status": status, "detail": "x" });
            let problem = serde_json::from_value(problem).unwrap();
            is_refused(&Error::Refused(Box::new(Refusal::new("url".into(), REPORTS_CALL.to_owned(), problem))))
        };
        assert!([400, 401, 413, 422].into_iter().all(refused));
        assert!(![404, 408, 409, 410, 429, 500, 503].into_iter().any(refused));
    }

    #[test]
    fn a_request_has_a_size() {
        let third = MOST_BYTES / 3;
        assert_eq!(fitting(&[letter(third), letter(third), letter(third), letter(third)]), 2);
        assert_eq!(fitting(&[letter(2 * MOST_BYTES), letter(1)]), 1, "what is too large goes alone");
        assert_eq!(fitting(&[letter(1), letter(1)]), 2);
    }
}
