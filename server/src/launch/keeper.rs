//! The task that goes between the scheduler and a launcher: asks what is to be done, has it done, and says how it went.
//!
//! All it knows is in the scheduler and with the launcher. It may be killed between any two lines: what was ordered was noted
//! before, and the next look finds it.

use std::sync::Arc;
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::job::spec::hex;
use promptfield_core::scheduler::pilot_records::{Launch, LauncherKind, Phase, PilotEnd, PoolState, Step};
use promptfield_core::scheduler::{Command, Reply};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Launcher, Order, Site};
use crate::clock::Clock;
use crate::tokens::Tokens;
use crate::writer::{WriteError, Writer};

/// A launcher whose pools are all off is still asked this often, for strays.
const QUIET: Duration = Duration::from_mins(1);
/// How often old logs are looked for.
const TIDY: Duration = Duration::from_hours(6);

/// What the keeper of a launcher works with.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) site: Arc<Site>,
    pub(crate) writer: Writer,
    pub(crate) tokens: Tokens,
    pub(crate) clock: Clock,
    pub(crate) beat: Duration,
    pub(crate) stop: CancellationToken,
}

/// What a launcher's pools are at.
struct Pools {
    count: usize,
    all_off: bool,
}

impl Keeper {
    /// Runs until it's told to stop. Pilots go on meanwhile.
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        // What is broken off is found by the next look after the next start.
        let _: Option<std::convert::Infallible> = stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) -> std::convert::Infallible {
        let kind = self.launcher.kind();
        let mut ticks = tokio::time::interval(self.beat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_look = Instant::now();
        let mut next_tidy = Instant::now();
        let mut was_reached = true;
        loop {
            ticks.tick().await;
            if Instant::now() >= next_tidy {
                next_tidy = Instant::now() + TIDY;
                if let Err(error) = self.site.tidy().await {
                    tracing::warn!("old logs of pilots can't be removed: {error}");
                }
            }
            if let Err(error) = self.beat(&mut next_look, &mut was_reached).await {
                tracing::warn!(launcher = kind.as_str(), error = chain(&error), "the pilots can't be looked after now");
            }
        }
    }

    async fn beat(&self, next_look: &mut Instant, was_reached: &mut bool) -> Result<(), WriteError> {
        let kind = self.launcher.kind();
        let Pools { count, all_off } = self.pools(kind).await?;
        if count == 0 {
            return Ok(());
        }
        if Instant::now() >= *next_look {
            let reached = self.look().await?;
            match (*was_reached, &reached) {
                (true, Err(reason)) => {
                    tracing::warn!(launcher = kind.as_str(), "it can't be asked for the pilots: {reason}");
                }
                (false, Ok(())) => tracing::info!(launcher = kind.as_str(), "it can be asked again"),
                _ => {}
            }
            *was_reached = reached.is_ok();
            *next_look = Instant::now() + if all_off { QUIET } else { self.launcher.look_every() };
        }
        if all_off {
            return Ok(());
        }
        let batches = (0..count).map(|_| fresh_batch()).collect::<Result<_, _>>();
        let Ok(batches) = batches else {
            tracing::error!("the operating system gives no random bytes; no pilots are started");
            return Ok(());
        };
        let reply = self.writer.apply(Command::Scale { launcher: kind, batches }).await?;
        if self.carry_out(reply).await? {
            // What has changed is looked at soon.
            *next_look = Instant::now();
        }
        Ok(())
    }

    async fn pools(&self, kind: LauncherKind) -> Result<Pools, WriteError> {
        let look = self.writer.look(move |scheduler, _| {
            let states = scheduler.pools().filter(|pool| pool.settings.launcher == kind).map(|pool| pool.state);
            let states: Vec<PoolState> = states.collect();
            Pools { count: states.len(), all_off: states.iter().all(|state| *state == PoolState::Off) }
        });
        look.await
    }

    /// Asks the launcher what it has. `Ok(Err)` is why it couldn't be asked.
    async fn look(&self) -> Result<Result<(), String>, WriteError> {
        let asked_at = self.clock.now();
        let mut seen = match self.launcher.list().await {
            Ok(seen) => seen,
            Err(reason) => return Ok(Err(reason)),
        };
        for sighting in &mut seen {
            if sighting.phase == Phase::Over(PilotEnd::Failed)
                && let Some(words) = self.site.last_words(&sighting.key).await
            {
                sighting.detail = format!("{}; its log ends with: {words}", sighting.detail);
            }
        }
        let reply = self.writer.apply(Command::Sight { launcher: self.launcher.kind(), asked_at, seen }).await?;
        self.carry_out(reply).await?;
        Ok(Ok(()))
    }

    /// Whether anything was to be done.
    async fn carry_out(&self, reply: Reply) -> Result<bool, WriteError> {
        let Reply::Steps(steps) = reply else { return Err(WriteError::Unexpected(Box::new(reply))) };
        let some = !steps.is_empty();
        for step in steps {
            match step {
                Step::Start { pool, settings, batch, count } => {
                    let order = Order { pool: &pool, settings: &settings, batch: &batch, count };
                    let launch = match self.site.token.ensure(&self.tokens, &self.writer, self.clock).await {
                        Ok(()) => self.launcher.start(order).await,
                        Err(reason) => Launch::Refused(reason),
                    };
                    tracing::info!(pool, batch, count, "pilots were asked for: {launch:?}");
                    self.writer.apply(Command::Launched { batch, launch }).await?;
                }
                Step::Stop(names) => {
                    let count = names.len();
                    tracing::info!(launcher = self.launcher.kind().as_str(), count, "pilots are ended: {names:?}");
                    if let Err(reason) = self.launcher.stop(&names).await {
                        tracing::warn!(count, "pilots can't be ended now, and are again soon: {reason}");
                    }
                }
            }
        }
        Ok(some)
    }
}

/// A name that nobody can guess.
fn fresh_batch() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}
