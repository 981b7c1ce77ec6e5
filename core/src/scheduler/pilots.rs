//! Pools, and the pilots in them: how many there are to be, and what becomes of them.
//!
//! [`Command::Scale`] looks at what waits and says what a launcher is to do next; new pilots are noted before the launcher hears of
//! them, so that none is left behind whoever dies when. [`Command::Launched`] says how it went, [`Command::Sight`] what the launcher
//! has now: a pilot that it doesn't have is over, and what it has without a pilot here is a stray, which is ended.
//!
//! [`Command::Scale`]: super::Command::Scale
//! [`Command::Launched`]: super::Command::Launched
//! [`Command::Sight`]: super::Command::Sight

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Change, EventKind, Rejection, Reply, Scheduler, WorkerDescription, WorkerState};
use crate::id::{PilotId, WorkerId};
use crate::job::spec::BasisHash;
use crate::scheduler::pilot_records::{
    Launch, LauncherKind, Phase, PilotEnd, PilotKey, PilotRecord, PilotState, PoolRecord, PoolSettings, PoolState,
    Sighting, Step,
};
use crate::time::Timestamp;

/// A pool pauses after so many pilots in a row that were of no use.
const MOST_CRASHES: u32 = 3;
/// A pool pauses after so many submissions in a row that were refused.
const MOST_REFUSALS: u32 = 10;
/// The waits after refused submissions and crashes in a row; the last one holds for all further ones.
const WAITS_MS: [i64; 5] = [10_000, 60_000, 5 * 60_000, 15 * 60_000, 60 * 60_000];
/// The wait when the launcher couldn't be asked, or when somebody else ended a pilot.
const SHORT_WAIT_MS: i64 = 30_000;
/// A worker that lived for so long was of use, whatever its end was.
const LIVED_MS: i64 = 60_000;
/// A pilot that runs, and whose worker hasn't come by then, never will.
const ARRIVAL_MS: i64 = 10 * 60_000;
/// A pilot that still runs so long after its worker went is of no more use.
const AFTERLIFE_MS: i64 = 2 * 60_000;
/// When a pilot that was told to end is told so again; one that was to leave by itself is then ended.
const PATIENCE_MS: i64 = 30_000;

/// All pools and those of their pilots that aren't over.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) pools: BTreeMap<String, PoolEntry>,
    pub(super) pilots: BTreeMap<PilotId, PilotEntry>,
    by_key: HashMap<PilotKey, PilotId>,
    pub(super) last_pilot: PilotId,
}

#[derive(Debug)]
pub(super) struct PoolEntry {
    pub(super) record: PoolRecord,
    /// What the last pilot that came said of itself.
    pub(super) described: Option<WorkerDescription>,
    /// Since when there has been nothing to do for some that wait.
    unneeded_since: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct PilotEntry {
    pub(super) record: PilotRecord,
    /// Since when it has been in its state; since the restart at the earliest.
    since: Timestamp,
    /// When it was told to end.
    told_at: Option<Timestamp>,
    /// Since when its worker has been gone.
    gone_since: Option<Timestamp>,
}

impl Fleet {
    pub(super) fn add_pool(&mut self, record: PoolRecord) {
        let entry = PoolEntry { record, described: None, unneeded_since: None };
        self.pools.insert(entry.record.name.clone(), entry);
    }

    /// Notes which weights of a backbone a worker has, if it's a pilot: those that its pool starts will have the same.
    pub(super) fn describe(&mut self, worker: WorkerId, backbone: &str, sha256: BasisHash) {
        let pilot = self.pilots.values().find(|pilot| pilot.record.worker == Some(worker));
        let pool = pilot.and_then(|pilot| self.pools.get_mut(&pilot.record.pool));
        if let Some(described) = pool.and_then(|pool| pool.described.as_mut()) {
            described.backbone_sha256.insert(backbone.to_owned(), sha256);
        }
    }

    pub(super) fn add_pilot(&mut self, record: PilotRecord, now: Timestamp) {
        self.last_pilot = self.last_pilot.max(record.id);
        self.by_key.insert(record.key(), record.id);
        let entry = PilotEntry { record, since: now, told_at: None, gone_since: None };
        self.pilots.insert(entry.record.id, entry);
    }

    /// A pool's pilots that aren't over.
    pub(super) fn of<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a PilotEntry> {
        self.pilots.values().filter(move |entry| entry.record.pool == pool)
    }

    /// How many of a pool's pilots weren't told to end.
    fn kept(&self, pool: &str) -> usize {
        self.of(pool).filter(|entry| entry.record.state != PilotState::Stopping).count()
    }
}

impl Scheduler {
    /// All pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = &PoolRecord> {
        self.fleet.pools.values().map(|entry| &entry.record)
    }

    /// A pool.
    pub fn pool(&self, name: &str) -> Option<&PoolRecord> {
        self.fleet.pools.get(name).map(|entry| &entry.record)
    }

    /// The pilots that aren't over, oldest first.
    pub fn pilots(&self) -> impl Iterator<Item = &PilotRecord> {
        self.fleet.pilots.values().map(|entry| &entry.record)
    }

    pub(super) fn set_pool(&mut self, name: String, settings: PoolSettings, from_file: bool, now: Timestamp) {
        let known = self.fleet.pools.get(&name).map(|entry| &entry.record);
        // What the file says again at every start doesn't undo a pause.
        let same = known.is_some_and(|known| {
            let goes_on = known.state == PoolState::Active || (from_file && known.state == PoolState::Paused);
            known.settings == settings && known.from_file == from_file && goes_on
        });
        if !same {
            let record = PoolRecord {
                name: name.clone(),
                settings,
                from_file,
                state: PoolState::Active,
                reason: None,
                failed_submissions: 0,
                crashes: 0,
                not_before: now,
            };
            self.fleet.add_pool(record);
            self.note_pool(&name, now);
        }
    }

    pub(super) fn end_pool(&mut self, name: &str, now: Timestamp) -> Result<Reply, Rejection> {
        let has_pilots = self.fleet.of(name).next().is_some();
        let entry = self.fleet.pools.get_mut(name).ok_or_else(|| Rejection::NoPool(name.to_owned()))?;
        if entry.record.state != PoolState::Off {
            entry.record.state = if has_pilots { PoolState::Ending } else { PoolState::Off };
            entry.record.reason = None;
            self.note_pool(name, now);
        }
        Ok(Reply::Done)
    }

    pub(super) fn resume_pool(&mut self, name: &str, now: Timestamp) -> Result<Reply, Rejection> {
        let entry = self.fleet.pools.get_mut(name).ok_or_else(|| Rejection::NoPool(name.to_owned()))?;
        if entry.record.state == PoolState::Paused {
            let record = &mut entry.record;
            (record.state, record.reason, record.not_before) = (PoolState::Active, None, now);
            (record.failed_submissions, record.crashes) = (0, 0);
            self.note_pool(name, now);
        }
        Ok(Reply::Done)
    }

    /// Says what a launcher is to do next. `batches` are names for what it may be asked for, one for each pool at least.
    pub(super) fn scale(&mut self, launcher: LauncherKind, batches: Vec<String>, now: Timestamp) -> Vec<Step> {
        let pools: Vec<String> = self.of_launcher(launcher);
        let demands = self.demand(&pools, now);
        let mut stops = Vec::new();
        let mut steps = Vec::new();
        for (name, batch) in pools.into_iter().zip(batches) {
            self.tend(&name, now, &mut stops);
            let demand = demands.get(&name);
            if let Some(demand) = demand {
                self.thin_out(&name, &demand.spare, now, &mut stops);
            }
            steps.extend(self.grow(&name, batch, demand.map_or(0, |demand| demand.more), now));
        }
        if !stops.is_empty() {
            steps.push(Step::Stop(stops));
        }
        steps
    }

    fn of_launcher(&self, launcher: LauncherKind) -> Vec<String> {
        let pools = self.fleet.pools.values().filter(|entry| entry.record.settings.launcher == launcher);
        pools.map(|entry| entry.record.name.clone()).collect()
    }

    /// Ends those pilots of a pool that are of no more use, and the pool when it has none left.
    fn tend(&mut self, pool: &str, now: Timestamp, stops: &mut Vec<String>) {
        let Some(entry) = self.fleet.pools.get(pool) else { return };
        let (state, settings) = (entry.record.state, entry.record.settings.clone());
        let pilots: Vec<PilotId> = self.fleet.of(pool).map(|entry| entry.record.id).collect();
        if state == PoolState::Ending && pilots.is_empty() {
            if let Some(entry) = self.fleet.pools.get_mut(pool) {
                entry.record.state = PoolState::Off;
            }
            self.note_pool(pool, now);
        }
        let mut kept = self.fleet.kept(pool);
        for id in pilots {
            let Some(entry) = self.fleet.pilots.get_mut(&id) else { continue };
            let worker = entry.record.worker.and_then(|worker| self.workers.get(&worker));
            let is_here = worker.is_some_and(super::WorkerEntry::is_here);
            entry.gone_since = match entry.record.worker {
                Some(_) if !is_here => entry.gone_since.or(Some(now)),
                _ => None,
            };
            let idle = worker.filter(|worker| is_here && worker.held.is_empty()).map(|worker| worker.idle_since);
            let for_long = |since: Option<Timestamp>, ms: i64| since.is_some_and(|since| now.since(since) >= ms);
            let runs = entry.record.state == PilotState::Running;
            if entry.record.state == PilotState::Stopping {
                if entry.told_at.is_none_or(|told| now.since(told) >= PATIENCE_MS) {
                    entry.told_at = Some(now);
                    stops.extend(entry.record.launcher_id.clone());
                }
            } else if state == PoolState::Ending {
                self.stop(id, "its pool was turned off", now, stops);
            } else if runs && entry.record.worker.is_none() && now.since(entry.since) >= ARRIVAL_MS {
                let why = format!("its worker hasn't come within {} minutes", ARRIVAL_MS / 60_000);
                self.stop(id, &why, now, stops);
                self.count_crash(pool, &why, now);
            } else if runs && for_long(entry.gone_since, AFTERLIFE_MS) {
                self.stop(id, "its worker is gone", now, stops);
            } else if for_long(idle, i64::from(settings.idle_s) * 1000) && kept > settings.min as usize {
                // The worker hears of it when it asks for a job, and leaves; if it doesn't, it's ended.
                kept -= 1;
                if let Some(worker) = self.fleet.pilots.get(&id).and_then(|entry| entry.record.worker) {
                    // It's here.
                    let _ = self.drain(worker, now);
                }
                self.move_pilot(id, PilotState::Stopping, Some("there was nothing to do".to_owned()), now);
                if let Some(entry) = self.fleet.pilots.get_mut(&id) {
                    entry.told_at = Some(now);
                }
            }
        }
    }

    /// Ends pilots that wait, when there has been nothing to do for them for long.
    fn thin_out(&mut self, pool: &str, spare: &[PilotId], now: Timestamp, stops: &mut Vec<String>) {
        let kept = self.fleet.kept(pool);
        let Some(entry) = self.fleet.pools.get_mut(pool) else { return };
        let surplus = spare.len().min(kept.saturating_sub(entry.record.settings.min as usize));
        if surplus == 0 {
            entry.unneeded_since = None;
            return;
        }
        let since = *entry.unneeded_since.get_or_insert(now);
        if now.since(since) >= i64::from(entry.record.settings.idle_s) * 1000 {
            entry.unneeded_since = None;
            // The youngest would have waited longest.
            for id in spare.iter().rev().take(surplus) {
                self.stop(*id, "there was nothing to do for it", now, stops);
            }
        }
    }

    /// Notes new pilots, if jobs or the pool's minimum want some and it may have them now.
    fn grow(&mut self, pool: &str, batch: String, more: usize, now: Timestamp) -> Option<Step> {
        let entry = self.fleet.pools.get(pool)?;
        let settings = entry.record.settings.clone();
        if entry.record.state != PoolState::Active || entry.record.not_before > now {
            return None;
        }
        if self.fleet.of(pool).any(|entry| entry.record.state == PilotState::Submitting) {
            return None;
        }
        // One that was told to end still takes a place at the launcher.
        let room = (settings.max as usize).saturating_sub(self.fleet.of(pool).count());
        let count = more.max((settings.min as usize).saturating_sub(self.fleet.kept(pool))).min(room);
        if count == 0 {
            return None;
        }
        for index in 0..count as u32 {
            let record = PilotRecord {
                id: PilotId(self.fleet.last_pilot.0 + 1),
                pool: pool.to_owned(),
                batch: batch.clone(),
                index,
                launcher_id: None,
                state: PilotState::Submitting,
                detail: None,
                node: None,
                submitted_at: now,
                ended_at: None,
                worker: None,
            };
            let id = record.id;
            self.fleet.add_pilot(record, now);
            self.note_pilot(id, now);
        }
        if let Some(entry) = self.fleet.pools.get_mut(pool) {
            entry.record.not_before = now.plus(i64::from(settings.submit_every_s) * 1000);
            self.changes.push(Change::Pool(Box::new(entry.record.clone())));
        }
        Some(Step::Start { pool: pool.to_owned(), settings: Box::new(settings), batch, count: count as u32 })
    }

    /// Notes how an order went.
    pub(super) fn launched(&mut self, batch: &str, launch: Launch, now: Timestamp) {
        let ordered = || self.fleet.pilots.values().map(|entry| &entry.record).filter(|pilot| pilot.batch == batch);
        let Some(pool) = ordered().next().map(|pilot| pilot.pool.clone()) else { return };
        let pilots: Vec<(PilotId, u32)> = ordered().map(|pilot| (pilot.id, pilot.index)).collect();
        let over = |scheduler: &mut Self, reason: &str| {
            for (id, _) in &pilots {
                scheduler.move_pilot(*id, PilotState::Failed, Some(reason.to_owned()), now);
            }
        };
        // Why not, what is waited for, and whether the pool's settings may be to blame.
        let (reason, wait, is_refused) = match launch {
            Launch::Accepted(names) => {
                for (id, index) in pilots {
                    let Some(entry) = self.fleet.pilots.get_mut(&id) else { continue };
                    entry.record.launcher_id = names.get(index as usize).cloned();
                    let waits = entry.record.state == PilotState::Submitting;
                    let state = if waits { PilotState::Waiting } else { entry.record.state };
                    self.move_pilot(id, state, None, now);
                }
                (None, 0, false)
            }
            Launch::Refused(reason) => {
                over(self, &reason);
                let refusals = self.fleet.pools.get(&pool).map_or(0, |entry| entry.record.failed_submissions);
                (Some(reason), wait_after(refusals), true)
            }
            Launch::Unavailable(reason) => {
                over(self, &reason);
                (Some(reason), SHORT_WAIT_MS, false)
            }
            Launch::Unclear(reason) => (Some(reason), SHORT_WAIT_MS, false),
        };
        let Some(entry) = self.fleet.pools.get_mut(&pool) else { return };
        let record = &mut entry.record;
        let before = record.clone();
        record.not_before = record.not_before.max(now.plus(wait));
        if reason.is_none() {
            record.failed_submissions = 0;
        }
        record.failed_submissions += u32::from(is_refused);
        if record.failed_submissions >= MOST_REFUSALS && record.state == PoolState::Active {
            record.state = PoolState::Paused;
        }
        // Why pilots were of no use stands there until one is.
        if reason.is_some() || record.crashes == 0 {
            record.reason = reason;
        }
        if *record != before {
            self.note_pool(&pool, now);
        }
    }

    /// Compares the pilots with what a launcher had when it was asked at `asked_at`.
    pub(super) fn sight(
        &mut self,
        launcher: LauncherKind,
        asked_at: Timestamp,
        seen: Vec<Sighting>,
        now: Timestamp,
    ) -> Vec<Step> {
        let pools: BTreeSet<String> = self.of_launcher(launcher).into_iter().collect();
        let mut unseen: BTreeSet<PilotId> = self
            .fleet
            .pilots
            .values()
            .filter(|entry| pools.contains(&entry.record.pool) && entry.record.submitted_at <= asked_at)
            .map(|entry| entry.record.id)
            .collect();
        let mut strays = Vec::new();
        for sighting in seen {
            let id = self.fleet.by_key.get(&sighting.key).copied();
            let known = id.and_then(|id| self.fleet.pilots.get(&id));
            let fits = known.is_some_and(|entry| {
                pools.contains(&entry.record.pool)
                    && entry.record.launcher_id.as_ref().is_none_or(|known| *known == sighting.launcher_id)
            });
            match id.filter(|_| fits) {
                Some(id) => {
                    unseen.remove(&id);
                    self.seen_at(id, sighting, asked_at, now);
                }
                None if matches!(sighting.phase, Phase::Over(_)) => {}
                None => strays.push(sighting.launcher_id),
            }
        }
        for id in unseen {
            let Some(entry) = self.fleet.pilots.get(&id) else { continue };
            let is_here = entry.record.worker.is_some_and(|worker| self.is_here(worker));
            if is_here {
                // The launcher may have forgotten it; as long as it works, it's one.
                continue;
            }
            let (state, why) = if entry.record.launcher_id.is_none() {
                (PilotState::Failed, "its submission never showed up")
            } else {
                (PilotState::Ended, "the launcher doesn't know it any more, nor how it ended")
            };
            self.move_pilot(id, state, Some(why.to_owned()), now);
        }
        if strays.is_empty() { Vec::new() } else { vec![Step::Stop(strays)] }
    }

    /// Takes over what a launcher said of a pilot when it was asked.
    fn seen_at(&mut self, id: PilotId, sighting: Sighting, asked_at: Timestamp, now: Timestamp) {
        let Sighting { launcher_id, phase, detail, node, .. } = sighting;
        if phase == Phase::Waiting
            && let Some((worker, registered_at)) = self.worker_of(id)
        {
            // It came after the launcher was asked.
            if registered_at >= asked_at {
                return;
            }
            // The launcher will start it once more: its process is gone.
            let _ = self.leave(worker, now);
        }
        let Some(entry) = self.fleet.pilots.get_mut(&id) else { return };
        let before = (entry.record.launcher_id.clone(), entry.record.node.clone());
        entry.record.launcher_id = Some(launcher_id);
        entry.record.node = node.or(entry.record.node.take());
        let moved = before != (entry.record.launcher_id.clone(), entry.record.node.clone());
        let state = entry.record.state;
        let next = match phase {
            Phase::Over(end) => return self.finish(id, end, detail, now),
            // It was told to end, and hasn't yet.
            _ if state == PilotState::Stopping => PilotState::Stopping,
            Phase::Waiting => PilotState::Waiting,
            Phase::Running => PilotState::Running,
            Phase::Suspended => PilotState::Suspended,
            Phase::Unknown if state == PilotState::Submitting => PilotState::Waiting,
            Phase::Unknown => state,
        };
        let is_news = next != state || entry.record.detail.as_ref() != Some(&detail);
        let keeps_words = next == PilotState::Stopping;
        if moved || (is_news && !keeps_words) {
            let detail = if keeps_words { entry.record.detail.clone() } else { Some(detail) };
            self.move_pilot(id, next, detail, now);
        }
    }

    /// A pilot's worker, if it's here, and when it came.
    fn worker_of(&self, id: PilotId) -> Option<(WorkerId, Timestamp)> {
        let worker = self.workers.get(&self.fleet.pilots.get(&id)?.record.worker?)?;
        worker.is_here().then_some((worker.record.id, worker.record.registered_at))
    }

    /// A pilot is over, as its launcher says.
    fn finish(&mut self, id: PilotId, end: PilotEnd, detail: String, now: Timestamp) {
        let Some(entry) = self.fleet.pilots.get(&id) else { return };
        let (pool, stopped) = (entry.record.pool.clone(), entry.record.state == PilotState::Stopping);
        let worker = entry.record.worker.and_then(|worker| self.workers.get(&worker));
        let lived = worker.is_some_and(|worker| worker.last_seen.since(worker.record.registered_at) >= LIVED_MS);
        let crashed = !stopped
            && match end {
                PilotEnd::Failed => !lived,
                PilotEnd::Done | PilotEnd::TimeUp => worker.is_none(),
                PilotEnd::Taken | PilotEnd::Cancelled => false,
            };
        if let Some((worker, _)) = self.worker_of(id) {
            // Nobody need wait until its silence is long enough. What the launcher took away isn't its jobs' fault.
            if end == PilotEnd::Failed {
                self.dismiss(worker, WorkerState::Lost, &format!("its pilot is over: {detail}"), now);
            } else {
                // It's here.
                let _ = self.leave(worker, now);
            }
        }
        let Some(entry) = self.fleet.pilots.get(&id) else { return };
        let detail = match &entry.record.detail {
            Some(why) if stopped => format!("{why}; {detail}"),
            _ => detail,
        };
        let state = if crashed { PilotState::Failed } else { PilotState::Ended };
        self.move_pilot(id, state, Some(detail.clone()), now);
        if crashed {
            self.count_crash(&pool, &detail, now);
        } else if let Some(entry) = self.fleet.pools.get_mut(&pool) {
            if !stopped && end == PilotEnd::Cancelled {
                // Whoever did that doesn't want the next one in its place at once.
                entry.record.not_before = entry.record.not_before.max(now.plus(SHORT_WAIT_MS));
                self.changes.push(Change::Pool(Box::new(entry.record.clone())));
            } else if lived && entry.record.crashes > 0 {
                (entry.record.crashes, entry.record.reason) = (0, None);
                self.changes.push(Change::Pool(Box::new(entry.record.clone())));
            }
        }
    }

    /// A pilot was of no use; a pool in which that goes on is paused.
    fn count_crash(&mut self, pool: &str, why: &str, now: Timestamp) {
        let Some(entry) = self.fleet.pools.get_mut(pool) else { return };
        let record = &mut entry.record;
        record.crashes += 1;
        record.not_before = record.not_before.max(now.plus(wait_after(record.crashes - 1)));
        record.reason = Some(format!("{} pilots in a row were of no use, the last: {why}", record.crashes));
        if record.crashes >= MOST_CRASHES && record.state == PoolState::Active {
            record.state = PoolState::Paused;
        }
        self.note_pool(pool, now);
    }

    /// Tells a pilot to end.
    fn stop(&mut self, id: PilotId, why: &str, now: Timestamp, stops: &mut Vec<String>) {
        let Some(entry) = self.fleet.pilots.get_mut(&id) else { return };
        // Without a name it can't be told yet; it's told as soon as it has one.
        entry.told_at = entry.record.launcher_id.is_some().then_some(now);
        stops.extend(entry.record.launcher_id.clone());
        self.move_pilot(id, PilotState::Stopping, Some(why.to_owned()), now);
    }

    /// The pilot that a worker says it is, if such a one is wanted.
    pub(super) fn wanted_pilot(&self, key: &str) -> Result<PilotId, Rejection> {
        let unwanted = || Rejection::UnwantedPilot(key.to_owned());
        let key: PilotKey = key.parse().map_err(|_| unwanted())?;
        let id = self.fleet.by_key.get(&key).copied().ok_or_else(unwanted)?;
        let is_wanted = self.fleet.pilots.get(&id).is_some_and(|entry| {
            let pool = self.fleet.pools.get(&entry.record.pool).map(|pool| pool.record.state);
            entry.record.state != PilotState::Stopping && pool.is_some_and(|state| state != PoolState::Ending)
        });
        is_wanted.then_some(id).ok_or_else(unwanted)
    }

    /// A pilot's worker has come.
    pub(super) fn arrived(&mut self, id: PilotId, worker: WorkerId, now: Timestamp) {
        let description = self.worker(worker).map(|record| record.description.clone());
        let Some(entry) = self.fleet.pilots.get_mut(&id) else { return };
        entry.record.worker = Some(worker);
        let (pool, detail) = (entry.record.pool.clone(), entry.record.detail.clone());
        entry.record.node = description.as_ref().map(|description| description.host.clone());
        self.move_pilot(id, PilotState::Running, detail, now);
        if let Some(pool) = self.fleet.pools.get_mut(&pool) {
            pool.described = description;
        }
    }

    /// Gives a pilot a state, which may be the one that it has.
    fn move_pilot(&mut self, id: PilotId, state: PilotState, detail: Option<String>, now: Timestamp) {
        let Some(entry) = self.fleet.pilots.get_mut(&id) else { return };
        if entry.record.state != state {
            entry.since = now;
        }
        entry.record.state = state;
        entry.record.detail = detail;
        entry.record.ended_at = state.is_over().then_some(now);
        self.note_pilot(id, now);
        if state.is_over()
            && let Some(entry) = self.fleet.pilots.remove(&id)
        {
            self.fleet.by_key.remove(&entry.record.key());
        }
    }

    fn note_pilot(&mut self, id: PilotId, now: Timestamp) {
        let Some(record) = self.fleet.pilots.get(&id).map(|entry| entry.record.clone()) else { return };
        let (pool, to, reason) = (record.pool.clone(), record.state, record.detail.clone());
        self.faults_changed = true;
        self.changes.push(Change::Pilot(Box::new(record)));
        self.event(EventKind::PilotChanged { pilot: id, pool, to, reason }, now);
    }

    fn note_pool(&mut self, name: &str, now: Timestamp) {
        let Some(record) = self.fleet.pools.get(name).map(|entry| entry.record.clone()) else { return };
        let (pool, to, reason) = (record.name.clone(), record.state, record.reason.clone());
        self.faults_changed = true;
        self.changes.push(Change::Pool(Box::new(record)));
        self.event(EventKind::PoolChanged { pool, to, reason }, now);
    }

    /// What must hold of pools and pilots, as a list of what doesn't.
    pub(super) fn pilot_violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, PilotEntry { record, .. }) in &self.fleet.pilots {
            if record.state.is_over() || !self.fleet.pools.contains_key(&record.pool) {
                found.push(format!("pilot {id}: {} in pool `{}`", record.state, record.pool));
            }
            if self.fleet.by_key.get(&record.key()) != Some(id) {
                found.push(format!("pilot {id}: it isn't found by its key"));
            }
        }
        if self.fleet.by_key.len() != self.fleet.pilots.len() {
            found.push("keys of pilots that are over".to_owned());
        }
        for (name, PoolEntry { record, .. }) in &self.fleet.pools {
            let pilots = self.fleet.of(name).count();
            if record.state == PoolState::Off && pilots > 0 {
                found.push(format!("pool `{name}` is off and has {pilots} pilots"));
            }
        }
        for worker in self.workers.values().filter(|worker| worker.record.state == WorkerState::Active) {
            let key = worker.record.description.pilot.as_ref().and_then(|key| key.parse::<PilotKey>().ok());
            let pilot = key.and_then(|key| self.fleet.by_key.get(&key)).and_then(|id| self.fleet.pilots.get(id));
            if pilot.is_some_and(|pilot| pilot.record.worker.is_none_or(|latest| latest < worker.record.id)) {
                found.push(format!("worker {}: its pilot doesn't know it", worker.record.id));
            }
        }
        found
    }
}

/// The wait after so many failures before.
fn wait_after(failures: u32) -> i64 {
    let last = WAITS_MS.len() - 1;
    WAITS_MS[(failures as usize).min(last)]
}
