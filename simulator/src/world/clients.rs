//! Calls that are repeated until they are answered, as the worker's client does, and the network between.

use super::{Event, Line, World};
use crate::audit::Violation;
use crate::random::trait_of;
use crate::wire::{Answer, Ask, Caller, Request};

/// How long a request for jobs waits at the coordinator.
pub(super) const POLL: i64 = 20_000;
/// How long a client waits for an answer, on top of the time that the coordinator may let it wait.
const PATIENCE: i64 = 30_000;
const POLL_MARGIN: i64 = 10_000;
const FIRST_PAUSE: i64 = 200;
const LONGEST_PAUSE: i64 = 5_000;

/// A call that has no answer yet.
#[derive(Debug)]
pub(super) struct Call {
    caller: Caller,
    ask: Ask,
    /// Counts up with each attempt, and when one is given up: an answer to an earlier one finds nobody.
    attempt: u32,
    failures: u32,
}

impl World {
    /// Asks until there is an answer, or nobody waits for it any more.
    pub(super) fn call(&mut self, caller: Caller, ask: Ask) {
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, Call { caller, ask, attempt: 0, failures: 0 });
        self.attempt(call);
    }

    pub(super) fn attempt(&mut self, call: u64) {
        let Some(Call { caller, ask, .. }) = self.calls.get(&call) else { return };
        let (caller, ask) = (*caller, *ask);
        if !self.is_waiting(caller) {
            self.calls.remove(&call);
            return;
        }
        let Some(entry) = self.calls.get_mut(&call) else { return };
        entry.attempt += 1;
        let attempt = entry.attempt;
        // Where nothing goes wrong, everybody is answered before.
        if self.settings.faults {
            let patience = if matches!(ask, Ask::Lease { .. }) { POLL + POLL_MARGIN } else { PATIENCE };
            let patience = self.by_its_clock(caller, patience);
            self.plan(patience, Event::GivesUp { call, attempt, caller });
        }
        let request = Request { call, attempt, caller, ask };
        for delay in self.deliveries(caller, ask).into_iter().flatten() {
            self.plan(delay, Event::Arrives(request));
        }
    }

    /// After how long a message arrives: never, once or twice.
    pub(super) fn deliveries(&mut self, caller: Caller, ask: Ask) -> [Option<i64>; 2] {
        if self.is_cut_off(caller) || self.random.chance(self.climate.lost) {
            self.history.note(self.now, Line::Lost { caller, ask });
            return [None, None];
        }
        let mut latency = || {
            let late = self.random.chance(self.climate.late);
            let most = if late { self.climate.latest.max(5) } else { 5 };
            self.random.between(1..=most)
        };
        let (first, second) = (latency(), latency());
        [Some(first), self.random.chance(self.climate.doubled).then_some(second)]
    }

    pub(super) fn answered(
        &mut self,
        call: u64,
        attempt: u32,
        caller: Caller,
        answer: Answer,
    ) -> Result<(), Violation> {
        let Some(entry) = self.calls.get(&call).filter(|entry| entry.attempt == attempt) else { return Ok(()) };
        let ask = entry.ask;
        if self.is_cut_off(caller) {
            self.history.note(self.now, Line::Lost { caller, ask });
            return Ok(());
        }
        if matches!(answer, Answer::Unavailable) {
            self.unavailable(call);
            return Ok(());
        }
        self.calls.remove(&call);
        if !self.is_waiting(caller) {
            return Ok(());
        }
        self.history.note(self.now, Line::Hears { caller, ask, answer: &answer });
        self.audit.heard(ask, &answer)?;
        self.hears(caller, ask, answer);
        Ok(())
    }

    pub(super) fn gives_up(&mut self, call: u64, attempt: u32, caller: Caller) {
        if !self.is_waiting(caller) {
            self.calls.remove(&call);
        } else if self.calls.get(&call).is_some_and(|entry| entry.attempt == attempt) {
            self.unavailable(call);
        }
    }

    fn unavailable(&mut self, call: u64) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        let doubled = FIRST_PAUSE << entry.failures.min(16);
        entry.failures += 1;
        entry.attempt += 1;
        let caller = entry.caller;
        let spread = trait_of(caller.worker().unwrap_or_default() as u64, entry.failures.into()) % 500;
        let spread = 750 + spread.cast_signed();
        let pause = self.by_its_clock(caller, doubled.min(LONGEST_PAUSE) * spread / 1000);
        self.plan(pause, Event::Repeats { call, caller });
    }

    /// Whether the coordinator can know that nobody waits for the answer.
    pub(super) fn is_closed(&self, request: &Request) -> bool {
        let current = self.calls.get(&request.call).is_some_and(|entry| entry.attempt == request.attempt);
        !(self.is_cut_off(request.caller) || current && self.is_waiting(request.caller))
    }

    fn hears(&mut self, caller: Caller, ask: Ask, answer: Answer) {
        match caller {
            Caller::Person => self.people.waiting -= 1,
            Caller::Process { worker, .. } => self.process_hears(worker, ask, &answer),
            Caller::Slot { worker, slot, .. } => self.slot_hears(worker, slot, ask, answer),
        }
    }
}
