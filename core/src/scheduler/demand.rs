//! How many more pilots jobs could keep busy.
//!
//! Waiting jobs are dealt out in the order of the queue: to the free slots of the workers that are here, then to the pilots that are
//! on their way, then to new ones, as far as devices, memory, labels and time allow. A queue's length alone says nothing: jobs that no
//! pilot of a pool could run bring none, and many jobs of a few seconds bring few.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::load::{Load, Obstacle};
use super::pilots::PoolEntry;
use super::{JobRecord, LaneKey, Scheduler, WorkerDescription, WorkerEntry, WorkerKind, WorkerRecord, WorkerState};
use crate::VERSION;
use crate::id::{ExperimentId, PilotId, WorkerId};
use crate::scheduler::pilot_records::{PilotState, PoolState};
use crate::time::Timestamp;

/// So many waiting jobs are looked at.
const LOOKED_AT: usize = 10_000;
/// After so many jobs of one group in a row that nobody could take, the rest of it is left.
const MISSES: usize = 16;
/// A slot that has less to do than this isn't worth a pilot's start, in milliseconds.
const WORTH_MS: u64 = 30_000;
/// A worker stops what it's at so long before its time is up, in milliseconds.
const LAST_MS: i64 = 30_000;

/// What a pool's pilots could do.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// How many more than there are would have something to do.
    pub(super) more: usize,
    /// Those on their way for which there is nothing to do, oldest first.
    pub(super) spare: Vec<PilotId>,
}

/// Who could take jobs.
struct Taker<'a> {
    worker: &'a WorkerEntry,
    load: Load,
    /// For what isn't here yet.
    whose: Option<(usize, Option<PilotId>)>,
    jobs: usize,
}

impl Scheduler {
    /// What these pools' pilots could do now.
    pub(super) fn demand(&self, pools: &[String], now: Timestamp) -> BTreeMap<String, Demand> {
        let entries: Vec<&PoolEntry> = pools.iter().filter_map(|name| self.fleet.pools.get(name)).collect();
        if entries.iter().all(|pool| pool.record.state == PoolState::Off) {
            return BTreeMap::new();
        }
        let models: Vec<WorkerEntry> = entries.iter().map(|pool| self.model(pool, now)).collect();
        let mut room: Vec<usize> = entries.iter().map(|pool| self.room_in(pool)).collect();
        let mut work_ms = vec![0_u64; entries.len()];
        let mut takers = self.present();
        for (place, (pool, model)) in entries.iter().zip(&models).enumerate() {
            let coming = self.fleet.of(&pool.record.name).filter(|pilot| {
                let on_its_way =
                    matches!(pilot.record.state, PilotState::Submitting | PilotState::Waiting | PilotState::Running);
                on_its_way && pilot.record.worker.is_none_or(|worker| !self.is_here(worker))
            });
            takers.extend(coming.map(|pilot| Taker::new(model, Some((place, Some(pilot.record.id))))));
        }
        let mut taken: HashMap<ExperimentId, usize> = HashMap::new();
        let mut looked_at = 0;
        for (lane, group, jobs) in self.queue.waiting() {
            let mut misses = 0;
            let Some(owner) = self.experiments.get(&lane.owner) else { continue };
            for job in jobs {
                looked_at += 1;
                let more = taken.get(&lane.owner).copied().unwrap_or_default();
                if looked_at > LOOKED_AT || misses >= MISSES || !owner.has_room_beside(more) {
                    break;
                }
                let Some(record) = self.job(*job) else { continue };
                let takes = |taker: &Taker<'_>| self.could_take(taker, lane, group.shape, record, now);
                let place = takers.iter().position(takes).or_else(|| {
                    let fresh = |place: usize| Taker::new(&models[place], Some((place, None)));
                    let place = (0..models.len()).find(|place| room[*place] > 0 && takes(&fresh(*place)))?;
                    room[place] -= 1;
                    takers.push(fresh(place));
                    Some(takers.len() - 1)
                });
                let Some(taker) = place.and_then(|place| takers.get_mut(place)) else {
                    misses += 1;
                    continue;
                };
                misses = 0;
                taker.load.add(self, *job);
                taker.jobs += 1;
                *taken.entry(lane.owner).or_default() += 1;
                if let Some((pool, None)) = taker.whose {
                    work_ms[pool] += self.duration_of(record).map_or(WORTH_MS, i64::unsigned_abs);
                }
            }
        }
        let mut demands: BTreeMap<String, Demand> = BTreeMap::new();
        for (name, model) in pools.iter().zip(&models) {
            let place = demands.len();
            let own = |taker: &&Taker<'_>| taker.whose.is_some_and(|(whose, _)| whose == place);
            let new = takers.iter().filter(own).filter(|taker| matches!(taker.whose, Some((_, None)))).count();
            let worth = WORTH_MS.saturating_mul(model.record.description.slots.max(1) as u64);
            let worthwhile = usize::try_from(work_ms[place].div_ceil(worth)).unwrap_or(usize::MAX).max(1);
            let idle = takers.iter().filter(own).filter(|taker| taker.jobs == 0);
            let spare = idle.filter_map(|taker| taker.whose?.1).filter(|id| self.waits(*id)).collect();
            demands.insert(name.clone(), Demand { more: new.min(worthwhile), spare });
        }
        demands
    }

    /// The workers with free slots.
    fn present(&self) -> Vec<Taker<'_>> {
        let active = self.workers.values().filter(|worker| worker.record.state == WorkerState::Active);
        let takers = active.map(|worker| Taker { worker, load: self.load(worker.record.id), whose: None, jobs: 0 });
        takers.filter(|taker| taker.load.jobs < taker.worker.record.description.slots).collect()
    }

    fn room_in(&self, pool: &PoolEntry) -> usize {
        let there = self.fleet.of(&pool.record.name).count();
        let is_active = pool.record.state == PoolState::Active;
        if is_active { (pool.record.settings.max as usize).saturating_sub(there) } else { 0 }
    }

    fn waits(&self, id: PilotId) -> bool {
        self.fleet.pilots.get(&id).is_some_and(|pilot| pilot.record.state == PilotState::Waiting)
    }

    fn could_take(
        &self,
        taker: &Taker<'_>,
        lane: &LaneKey,
        shape: super::ShapeId,
        job: &JobRecord,
        now: Timestamp,
    ) -> bool {
        let worker = taker.worker;
        let description = &worker.record.description;
        // What is here tries any job when it's idle; nothing is started for a job that it hasn't the memory for.
        let needs = self.shapes.get(shape).map_or(0, |shape| u64::from(shape.memory_mib()));
        let large_enough = taker.whose.is_none() || description.memory_mib.is_none_or(|memory| needs <= memory);
        taker.load.jobs < description.slots
            && large_enough
            && self.obstacle(lane, worker, &taker.load).is_none()
            && self.fits(shape, &taker.load, worker)
            && self.in_time(job, worker, now)
            && self.bar(worker, job, now).is_none()
    }

    /// Whether a pool may yet bring a worker for a lane's jobs.
    pub(super) fn may_start_another(&self, lane: &LaneKey, shape: super::ShapeId, now: Timestamp) -> bool {
        self.fleet.pools.values().any(|pool| {
            let ends = matches!(pool.record.state, PoolState::Ending | PoolState::Off);
            let comes = || !ends && self.fleet.of(&pool.record.name).any(|pilot| pilot.record.worker.is_none());
            let fits = || {
                let model = self.model(pool, now);
                self.obstacle(lane, &model, &Load::default()) != Some(Obstacle::Unfit) && self.runs_shape(shape, &model)
            };
            (self.room_in(pool) > 0 || comes()) && fits()
        })
    }

    /// Whether a worker has enough time left for a job. One that no whole time of this worker would be enough for begins in the
    /// first half of it: it goes on elsewhere from its last epoch.
    pub(super) fn in_time(&self, job: &JobRecord, worker: &WorkerEntry, now: Timestamp) -> bool {
        let Some(ends_at) = worker.ends_at else { return true };
        let left = ends_at.since(now) - LAST_MS;
        let whole = ends_at.since(worker.record.registered_at) - LAST_MS;
        match self.duration_of(job) {
            None => left > 0,
            Some(takes) => takes <= left || (takes > whole && 2 * left >= whole),
        }
    }

    /// A pilot of a pool as it will be, if it starts now: like the last one that came, or as its settings say.
    fn model(&self, pool: &PoolEntry, now: Timestamp) -> WorkerEntry {
        let settings = &pool.record.settings;
        let gpus = settings.gres.as_deref().map_or(1, gpus);
        let slots = gpus.max(1) * settings.slots_per_gpu as usize;
        let expected = || WorkerDescription {
            name: pool.record.name.clone(),
            host: String::new(),
            output_root: String::new(),
            places: String::new(),
            slots,
            devices: Vec::new(),
            backbones: Vec::new(),
            backbone_sha256: BTreeMap::new(),
            methods: BTreeMap::new(),
            version: VERSION.to_owned(),
            labels: settings.labels.clone(),
            memory_mib: settings.memory_mib,
            pilot: None,
            time_left_ms: None,
        };
        let known = pool.described.as_ref();
        let description = known.map_or_else(expected, |known| WorkerDescription {
            labels: settings.labels.clone(),
            memory_mib: settings.memory_mib.or(known.memory_mib),
            // It may come to any node.
            host: String::new(),
            ..known.clone()
        });
        // Before one has said what it has, it's taken to have everything.
        let backbones = match known {
            Some(known) => {
                let right = known.backbones.iter().filter(|name| known.other_backbone(name, self.pins()).is_none());
                right.filter_map(|name| self.names.find(name)).collect()
            }
            None => self.names.all().collect(),
        };
        let record = WorkerRecord { id: WorkerId(0), description, state: WorkerState::Active, registered_at: now };
        WorkerEntry {
            record,
            kind: WorkerKind(0),
            backbones,
            last_seen: now,
            idle_since: now,
            ends_at: settings.time_s.map(|seconds| now.plus(i64::from(seconds) * 1000)),
            held: BTreeSet::new(),
            used: false,
            warm: VecDeque::new(),
            fresh: VecDeque::new(),
        }
    }
}

impl<'a> Taker<'a> {
    fn new(worker: &'a WorkerEntry, whose: Option<(usize, Option<PilotId>)>) -> Self {
        Self { worker, load: Load::default(), whose, jobs: 0 }
    }
}

/// How many GPUs a `--gres` asks for: `gpu`, `gpu:2`, `gpu:a100:2`, among others.
fn gpus(gres: &str) -> usize {
    let count = |entry: &str| {
        let mut parts = entry.split(':');
        parts.next().filter(|kind| *kind == "gpu")?;
        parts.next_back()?.parse().ok()
    };
    gres.split(',').filter(|entry| entry.starts_with("gpu")).map(|entry| count(entry).unwrap_or(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::gpus;

    #[test]
    fn gpus_are_counted_as_slurm_writes_them() {
        for (gres, count) in [
            ("gpu", 1),
            ("gpu:2", 2),
            ("gpu:a100", 1),
            ("gpu:a100:4", 4),
            ("lustre:1,gpu:2,gpu:a100:1", 3),
            ("lustre:1", 0),
        ] {
            assert_eq!(gpus(gres), count, "{gres}");
        }
    }
}
