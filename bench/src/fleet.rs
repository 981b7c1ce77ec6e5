//! The worker processes of a measurement.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::process::Cpu;
use crate::worker::{Took, Word};

/// A worker that says nothing for so long has stopped.
const LONGEST_SILENCE: Duration = Duration::from_mins(10);

/// Which workers there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Processes.
    pub(crate) processes: u64,
    /// Workers in each process.
    pub(crate) workers: u64,
    /// Slots of each worker.
    pub(crate) slots: u64,
    /// Jobs that each worker takes beyond its slots.
    pub(crate) prefetch: u64,
}

/// Running workers, killed when they are dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    processes: Vec<(Child, Option<ChildStdin>)>,
    /// What the process of this index says; `None` when it has ended.
    words: mpsc::UnboundedReceiver<(usize, Option<Word>)>,
    /// Jobs that each process has ended.
    ended: Vec<u64>,
}

impl Fleet {
    /// Starts the workers, and waits until they are registered.
    pub(crate) async fn start(coordinator: &str, plan: Plan) -> Result<Self> {
        let program = std::env::current_exe().context("can't tell where this program lies")?;
        let (sender, words) = mpsc::unbounded_channel();
        let mut fleet = Self { processes: Vec::new(), words, ended: vec![0; plan.processes as usize] };
        for index in 0..plan.processes as usize {
            let mut child = Command::new(&program)
                .args(["worker", "--coordinator", coordinator, "--name", &format!("bench-{index}")])
                .args(["--slots", &plan.slots.to_string(), "--prefetch", &plan.prefetch.to_string()])
                .args(["--workers", &plan.workers.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .context("can't start a worker")?;
            let stdout = child.stdout.take().context("a worker has no stdout")?;
            let stdin = child.stdin.take();
            fleet.processes.push((child, stdin));
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let Ok(word) = serde_json::from_str(&line) else { break };
                    // The measurement may be over.
                    let _ = sender.send((index, Some(word)));
                }
                let _ = sender.send((index, None));
            });
        }
        for _ in 0..plan.processes {
            match fleet.listen().await? {
                (_, Word::Registered) => {}
                (index, other) => bail!("worker process {index} says {other:?} before it's registered"),
            }
        }
        Ok(fleet)
    }

    /// Returns when so many jobs have ended.
    pub(crate) async fn until_ended(&mut self, jobs: u64) -> Result<()> {
        while self.ended.iter().sum::<u64>() < jobs {
            if let (index, Word::Ended(total)) = self.listen().await? {
                self.ended[index] = total;
            }
        }
        Ok(())
    }

    /// What all processes have used.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let pids = self.processes.iter().map(|(child, _)| child.id().context("a worker process has ended"));
        pids.map(|pid| Cpu::of(pid?)).sum()
    }

    /// Stops them and hears how long their requests took.
    pub(crate) async fn stop(mut self) -> Result<Took> {
        let mut all = Took::default();
        for (_, stdin) in &mut self.processes {
            drop(stdin.take());
        }
        let mut talking = self.processes.len();
        while talking > 0 {
            match self.hear().await? {
                (_, Some(Word::Took(Took { lease_us, complete_us }))) => {
                    all.lease_us.extend(lease_us);
                    all.complete_us.extend(complete_us);
                }
                (_, Some(_)) => {}
                (_, None) => talking -= 1,
            }
        }
        for (child, _) in &mut self.processes {
            let status = child.wait().await.context("can't wait for a worker")?;
            ensure!(status.success(), "a worker process ended with {status}");
        }
        Ok(all)
    }

    /// The next word of a process that must not end yet.
    async fn listen(&mut self) -> Result<(usize, Word)> {
        match self.hear().await? {
            (index, Some(word)) => Ok((index, word)),
            (index, None) => bail!("worker process {index} ended: see its messages above"),
        }
    }

    async fn hear(&mut self) -> Result<(usize, Option<Word>)> {
        let word = tokio::time::timeout(LONGEST_SILENCE, self.words.recv()).await;
        word.context("the workers are silent")?.context("all workers have ended")
    }
}
