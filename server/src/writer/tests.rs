//! The writer alone, without HTTP: what it does when nobody reads the clock.

use std::collections::BTreeMap;

use promptfield_core::experiment::{Experiment, Known, matrix};
use promptfield_core::scheduler::WorkerDescription;

use super::*;

struct World {
    writer: Writer,
    task: JoinHandle<()>,
    stop: CancellationToken,
    close: CancellationToken,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db")).await.unwrap();
        let (policy, clock) = (Policy::default(), Clock::start());
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let signals = Signals { stop: stop.clone(), close: close.clone() };
        let (limits, metrics, tokens) = (Limits::default(), Metrics::new(), Tokens::default());
        let setup = Setup { policy: policy.clone(), limits, clock, tokens, metrics, signals };
        let (writer, task) = Writer::start(store, Scheduler::new(policy), setup);
        Self { writer, task, stop, close, _folder: folder }
    }

    async fn register(&self, name: &str) -> WorkerId {
        let description = WorkerDescription {
            name: name.into(),
            host: "host".into(),
            output_root: "/out".into(),
            places: String::new(),
            slots: 1,
            devices: vec!["cpu".into()],
            backbones: vec!["ViT-B/16".into()],
            backbone_sha256: std::collections::BTreeMap::new(),
            methods: BTreeMap::new(),
            version: "0".into(),
            labels: Vec::new(),
            memory_mib: None,
            pilot: None,
            time_left_ms: None,
        };
        match self.writer.apply(Command::Register(Box::new(description))).await {
            Ok(Reply::Registered(worker)) => worker,
            other => panic!("{other:?}"),
        }
    }

    /// Lets a worker wait for one job; when this returns, it's parked.
    async fn park(&self, worker: WorkerId) -> JoinHandle<Result<Reply, WriteError>> {
        let (writer, (sent, arrived)) = (self.writer.clone(), oneshot::channel());
        let poll = tokio::spawn(async move {
            let poll = writer.lease(worker, 1, Duration::from_mins(10));
            tokio::pin!(poll);
            // The first poll of the future puts the request into the inbox.
            let done = std::future::poll_fn(|context| std::task::Poll::Ready(poll.as_mut().poll(context))).await;
            assert!(done.is_pending());
            sent.send(()).unwrap();
            poll.await
        });
        arrived.await.unwrap();
        // Answered after everything that came before.
        self.writer.look(|_, _| ()).await.unwrap();
        poll
    }
}

fn submit() -> Command {
    let known = Known::built_in();
    let text = "name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\nmethods = [\"alignednorm\"]\n\
                datasets = [\"dtd\"]\nseeds = [1]";
    let experiment = Experiment::from_toml(text, &known).unwrap();
    let jobs = matrix::expand(&experiment, &known).unwrap();
    Command::Submit { experiment: Box::new(experiment), jobs, by: None }
}

fn granted(reply: Result<Reply, WriteError>) -> usize {
    match reply {
        Ok(Reply::Granted(grants)) => grants.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_waits_longest_gets_the_job() {
    let world = World::new().await;
    let first = world.park(world.register("first").await).await;
    let second = world.park(world.register("second").await).await;
    world.writer.apply(submit()).await.unwrap();
    assert_eq!(granted(first.await.unwrap()), 1);
    assert!(!second.is_finished());
    world.stop.cancel();
    assert_eq!(granted(second.await.unwrap()), 0);
}

#[tokio::test]
async fn a_job_is_not_given_to_somebody_who_is_gone() {
    let world = World::new().await;
    let gone = world.park(world.register("gone").await).await;
    let here = world.park(world.register("here").await).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    world.writer.apply(submit()).await.unwrap();
    assert_eq!(granted(here.await.unwrap()), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_coordinator_that_stops() {
    let World { writer, task, stop, close, _folder } = {
        let world = World::new().await;
        let worker = world.register("w").await;
        let poll = world.park(worker).await;
        world.stop.cancel();
        assert_eq!(granted(poll.await.unwrap()), 0);
        assert_eq!(granted(world.writer.lease(worker, 1, Duration::from_mins(10)).await), 0);
        world
    };
    assert!(stop.is_cancelled());
    close.cancel();
    task.await.unwrap();
    assert!(matches!(writer.apply(Command::Tick).await, Err(WriteError::Stopping)));
}
