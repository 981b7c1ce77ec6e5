//! What `squeue` says of jobs.

use anyhow::{Context, Result};

/// What [`Job::read`] reads. A name may contain anything but a line's end, so it comes last.
pub(crate) const FORMAT: &str = "%A|%F|%K|%T|%r|%N|%j";

/// A job, or an element of an array, as the controller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// An array's element has an id of its own once it runs; until then, and for the last one to start, it's the array's.
    /// `scancel` ignores it: it takes `ARRAY_TASK`.
    pub id: u64,
    /// The id that `sbatch` printed: of an array, the array's.
    pub array: u64,
    /// Which element of an array.
    pub task: Option<u32>,
    /// In full: `PENDING`, `RUNNING`, `COMPLETING`, …
    pub state: String,
    /// Why it waits or how it ended, as far as Slurm says.
    pub reason: String,
    /// Where it runs or ran.
    pub node: Option<String>,
    /// The name it was submitted with.
    pub name: String,
}

impl Job {
    pub(crate) fn read(line: &str) -> Result<Self> {
        let fields: Vec<_> = line.splitn(7, '|').collect();
        let [id, array, task, state, reason, node, name] =
            fields.try_into().ok().with_context(|| format!("squeue printed what is no job: {line:?}"))?;
        let number = |text: &str| text.parse().with_context(|| format!("squeue printed a job without an id: {line:?}"));
        Ok(Self {
            id: number(id)?,
            array: number(array)?,
            task: task.parse().ok(),
            state: state.to_owned(),
            reason: reason.to_owned(),
            node: (!node.is_empty()).then(|| node.to_owned()),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_that_runs_has_its_own_id() {
        let job = Job::read("13|11|0|RUNNING|None|n1|a name|with bar").unwrap();
        assert_eq!((job.id, job.array, job.task), (13, 11, Some(0)));
        assert_eq!((job.state.as_str(), job.node.as_deref()), ("RUNNING", Some("n1")));
        assert_eq!(job.name, "a name|with bar");
    }

    #[test]
    fn a_job_that_waits_is_on_no_node() {
        let job = Job::read("32|32|N/A|PENDING|PartitionTimeLimit||s.sh").unwrap();
        assert_eq!((job.task, job.node), (None, None));
    }

    #[test]
    fn anything_else_is_an_error_that_shows_it() {
        let error = Job::read("second line of a name").unwrap_err();
        assert!(error.to_string().contains("second line of a name"), "{error}");
    }
}
