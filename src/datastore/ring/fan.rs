//! One batch, cut into what each server gets of it, and its replies, put
//! together again in the order of the commands.

use std::future::Future;
use std::iter::Peekable;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use smallvec::SmallVec;

use super::super::{Response, Wire};
use super::{Place, Ring};
use crate::protocol::memcached::KEY_BYTES_MAX;
use crate::protocol::memcached::reply::{Answer, Values, answer};
use crate::protocol::memcached::route::{Scope, compares, keys, push_delete, push_get, scope};
use crate::protocol::memcached::verbs::{Specification, Verb};
use crate::protocol::{Batch, Class, Command, Failure, Protocol, Replies};

/// A batch under way to several servers.
pub(super) struct Fan {
    ring: Rc<Ring>,
    wire: Wire,
    batch: Batch,
    parts: Vec<Part>,
    plans: Vec<Plan>,
    /// The last zone that was asked.
    zone: usize,
}

/// What one server gets at once.
struct Part {
    place: Place,
    state: PartState,
}

enum PartState {
    Collecting(Batch),
    Sent(Response),
    Answered(Replies),
}

/// Where a reply is: which part, which of its replies.
type At = (usize, usize);

/// How the reply to one command is made.
enum Plan {
    /// It is one server's; those of several zones, in the order they were asked.
    Whole(SmallVec<[At; 1]>),
    /// Values of several servers, in the order of the keys.
    Values {
        verb: Verb,
        /// Where each key's value may be; the first that has it counts.
        asked: Vec<SmallVec<[At; 1]>>,
    },
    /// Every server's; an error of one is the answer.
    All(Vec<At>),
}

impl Fan {
    pub(super) fn new(ring: Rc<Ring>, wire: Wire, batch: Batch) -> Fan {
        let mut fan = Fan {
            ring,
            wire,
            plans: Vec::with_capacity(batch.commands.len()),
            batch,
            parts: Vec::new(),
            zone: 0,
        };
        for index in 0..fan.batch.commands.len() {
            let plan = fan.plan(index);
            fan.plans.push(plan);
        }
        fan.send();
        fan
    }

    pub(super) fn shape(&self) -> Batch {
        self.batch.shape()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Replies> {
        loop {
            let mut is_pending = false;
            for part in &mut self.parts {
                if let PartState::Sent(response) = &mut part.state {
                    match Pin::new(response).poll(cx) {
                        Poll::Ready(replies) => part.state = PartState::Answered(replies),
                        Poll::Pending => is_pending = true,
                    }
                }
            }
            if is_pending {
                return Poll::Pending;
            }
            if !self.fall_back() {
                return Poll::Ready(self.join());
            }
        }
    }

    /// Puts a command into the parts of the servers that it is for first.
    fn plan(&mut self, index: usize) -> Plan {
        let command = self.batch.commands[index];
        let specification = Specification(command.specification);
        let bytes = command.of(&self.batch.bytes).to_vec();
        if command.class == Class::Mutation {
            self.copy_to_zones(&bytes, specification);
        }
        let mut buffer = [0; KEY_BYTES_MAX];
        let keys = keys(&bytes, specification, &mut buffer);
        match scope(specification) {
            Scope::All => {
                let places: Vec<Place> = self.ring.all(0).collect();
                let each = places
                    .into_iter()
                    .map(|place| self.add(place, &bytes, specification));
                Plan::All(each.collect())
            }
            Scope::Keys if keys.len() > 1 => self.plan_values(&bytes, specification, &keys),
            Scope::Keys if keys.len() == 1 => {
                let place = self.ring.place(0, keys[0]);
                Plan::Whole(SmallVec::from_elem(
                    self.add(place, &bytes, specification),
                    1,
                ))
            }
            Scope::Keys | Scope::One => {
                let place = self.ring.any(self.wire, 0);
                Plan::Whole(SmallVec::from_elem(
                    self.add(place, &bytes, specification),
                    1,
                ))
            }
        }
    }

    fn plan_values(&mut self, bytes: &[u8], specification: Specification, keys: &[&[u8]]) -> Plan {
        let verb = specification.row().map_or(Verb::Get, |row| row.verb);
        let mut asked = vec![SmallVec::new(); keys.len()];
        let all: Vec<usize> = (0..keys.len()).collect();
        self.ask(0, bytes, verb, keys, &all, &mut asked);
        Plan::Values { verb, asked }
    }

    /// Asks the servers of a zone for some of the keys of a get.
    fn ask(
        &mut self,
        zone: usize,
        bytes: &[u8],
        verb: Verb,
        keys: &[&[u8]],
        wanted: &[usize],
        asked: &mut [SmallVec<[At; 1]>],
    ) {
        let mut groups: Vec<(Place, Vec<usize>)> = Vec::new();
        for &index in wanted {
            let place = self.ring.place(zone, keys[index]);
            match groups.iter_mut().find(|(other, _)| *other == place) {
                Some((_, group)) => group.push(index),
                None => groups.push((place, vec![index])),
            }
        }
        let mut get = BytesMut::new();
        for (place, group) in groups {
            get.clear();
            let keys: Vec<&[u8]> = group.iter().map(|index| keys[*index]).collect();
            push_get(bytes, verb, &keys, &mut get);
            let at = self.add(place, &get, Specification::new(verb));
            for index in group {
                asked[index].push(at);
            }
        }
    }

    /// Sends a mutation to the other zones; nobody waits for their replies.
    /// One that compares numbers of this zone's servers drops the key there: no
    /// copy is better than an old one.
    fn copy_to_zones(&mut self, bytes: &[u8], specification: Specification) {
        for zone in 1..self.ring.zones.len() {
            let mut buffer = [0; KEY_BYTES_MAX];
            let keys = keys(bytes, specification, &mut buffer);
            if scope(specification) == Scope::All {
                let places: Vec<Place> = self.ring.all(zone).collect();
                for place in places {
                    self.add(place, bytes, specification);
                }
                continue;
            }
            if keys.len() > 1 {
                let verb = specification.row().map_or(Verb::Get, |row| row.verb);
                let all: Vec<usize> = (0..keys.len()).collect();
                let mut asked = vec![SmallVec::new(); keys.len()];
                self.ask(zone, bytes, verb, &keys, &all, &mut asked);
                continue;
            }
            let Some(key) = keys.first() else {
                continue;
            };
            let own = self.ring.link(self.wire, self.ring.place(0, key));
            if own.unavailable().is_some() {
                // The client will hear that it was not done.
                continue;
            }
            let place = self.ring.place(zone, key);
            let mut delete = BytesMut::new();
            match compares(bytes, specification) {
                false => drop(self.add(place, bytes, specification)),
                true => {
                    if let Some(instead) = push_delete(bytes, specification, &mut delete) {
                        self.add(place, &delete, instead);
                    }
                }
            }
        }
    }

    /// Adds a command to what a server gets next; returns where its reply will be.
    fn add(&mut self, place: Place, bytes: &[u8], specification: Specification) -> At {
        let is_open =
            |part: &Part| part.place == place && matches!(part.state, PartState::Collecting(_));
        let at = self.parts.iter().position(is_open).unwrap_or_else(|| {
            self.parts.push(Part {
                place,
                state: PartState::Collecting(Batch {
                    protocol: Protocol::Memcached,
                    ..Batch::default()
                }),
            });
            self.parts.len() - 1
        });
        let PartState::Collecting(batch) = &mut self.parts[at].state else {
            unreachable!("an open part collects");
        };
        let start = batch.bytes.len() as u32;
        batch.bytes.extend_from_slice(bytes);
        batch.push(Command {
            start,
            end: batch.bytes.len() as u32,
            specification: specification.0,
            class: Class::Read,
        });
        (at, batch.commands.len() - 1)
    }

    fn send(&mut self) {
        for part in &mut self.parts {
            if let PartState::Collecting(batch) = &mut part.state {
                let batch = std::mem::take(batch);
                let response = self.ring.link(self.wire, part.place).send(batch);
                part.state = match part.place.zone > self.zone {
                    // A copy.
                    true => PartState::Answered(Replies::default()),
                    false => PartState::Sent(response),
                };
            }
        }
    }

    /// Looks in the next zone for what has not been found; false if there is
    /// nothing to look for, or no zone left.
    fn fall_back(&mut self) -> bool {
        while self.zone + 1 < self.ring.zones.len() {
            self.zone += 1;
            let before = self.parts.len();
            for index in 0..self.plans.len() {
                self.look_further(index);
            }
            if before < self.parts.len() {
                self.send();
                return true;
            }
        }
        false
    }

    fn look_further(&mut self, index: usize) {
        let command = self.batch.commands[index];
        let specification = Specification(command.specification);
        if command.class == Class::Mutation || scope(specification) != Scope::Keys {
            return;
        }
        let bytes = command.of(&self.batch.bytes).to_vec();
        let mut buffer = [0; KEY_BYTES_MAX];
        let keys = keys(&bytes, specification, &mut buffer);
        let mut plan = std::mem::replace(&mut self.plans[index], Plan::All(Vec::new()));
        match &mut plan {
            Plan::Whole(places) => {
                if let Some(key) = keys.first()
                    && !self.is_found(specification, places)
                {
                    let place = self.ring.place(self.zone, key);
                    places.push(self.add(place, &bytes, specification));
                }
            }
            Plan::Values { verb, asked } => {
                let values = self.values(&keys, asked);
                let missing: Vec<usize> = (0..keys.len())
                    .filter(|key| values[*key].is_none())
                    .collect();
                self.ask(self.zone, &bytes, *verb, &keys, &missing, asked);
            }
            Plan::All(_) => {}
        }
        self.plans[index] = plan;
    }

    fn is_found(&self, specification: Specification, places: &[At]) -> bool {
        let is_done = |reply: &[u8]| answer(specification, reply) == Answer::Done;
        places.iter().any(|at| self.reply(*at).is_some_and(is_done))
    }

    fn reply(&self, (part, index): At) -> Option<&[u8]> {
        match &self.parts[part].state {
            PartState::Answered(replies) => replies.reply(index),
            PartState::Collecting(_) | PartState::Sent(_) => None,
        }
    }

    fn failure(&self, (part, _): At) -> Failure {
        let failure = match &self.parts[part].state {
            PartState::Answered(replies) => replies.failure.clone(),
            PartState::Collecting(_) | PartState::Sent(_) => None,
        };
        failure.unwrap_or_else(|| Failure::NoReply(Rc::from("no reply")))
    }

    /// The value of each key, where a server that was asked for it has it. A
    /// server names the values in the order of the keys it was asked for, and a
    /// key that was asked for twice need not have a value twice.
    fn values(&self, keys: &[&[u8]], asked: &[SmallVec<[At; 1]>]) -> Vec<Option<&[u8]>> {
        let mut replies: SmallVec<[(At, Peekable<Values<'_>>); 4]> = SmallVec::new();
        let each = keys.iter().zip(asked);
        each.map(|(key, asked)| {
            let mut found = None;
            for at in asked {
                let known = replies.iter().position(|(other, _)| other == at);
                let known = known.unwrap_or_else(|| {
                    let reply = self.reply(*at).unwrap_or_default();
                    replies.push((*at, Values(reply).peekable()));
                    replies.len() - 1
                });
                let named = replies[known].1.next_if(|(other, _)| other == key);
                found = found.or(named.map(|(_, value)| value));
            }
            found
        })
        .collect()
    }

    fn join(&mut self) -> Replies {
        let mut joined = Replies {
            batch: std::mem::take(&mut self.batch),
            ..Replies::default()
        };
        let plans = std::mem::take(&mut self.plans);
        for (index, plan) in plans.iter().enumerate() {
            let specification = Specification(joined.batch.commands[index].specification);
            let failed = match plan {
                Plan::Whole(places) => self.join_whole(specification, places, &mut joined),
                Plan::Values { asked, .. } => {
                    let command = joined.batch.commands[index];
                    let bytes = command.of(&joined.batch.bytes).to_vec();
                    let mut buffer = [0; KEY_BYTES_MAX];
                    let keys = keys(&bytes, specification, &mut buffer);
                    self.join_values(&keys, asked, &mut joined)
                }
                Plan::All(places) => self.join_all(places, &mut joined),
            };
            joined.ends.push(joined.bytes.len() as u32);
            if let Some(failure) = failed {
                joined.failed.push((index as u32, failure));
            }
        }
        joined.errors = self.parts.iter().any(|part| match &part.state {
            PartState::Answered(replies) => replies.errors,
            PartState::Collecting(_) | PartState::Sent(_) => false,
        });
        joined
    }

    /// The reply of the zone that has something, or else of the first one that
    /// answered.
    fn join_whole(
        &self,
        specification: Specification,
        places: &[At],
        joined: &mut Replies,
    ) -> Option<Failure> {
        let is_done = |at: &&At| {
            let reply = self.reply(**at);
            reply.is_some_and(|reply| answer(specification, reply) == Answer::Done)
        };
        let answered = places.iter().find(|at| self.reply(**at).is_some());
        let Some(at) = places.iter().find(is_done).or(answered) else {
            return places.first().map(|at| self.failure(*at));
        };
        joined
            .bytes
            .extend_from_slice(self.reply(*at).unwrap_or_default());
        None
    }

    /// All values there are. Where a server could not be asked for its keys, the
    /// error comes in the place of the values' end.
    fn join_values(
        &self,
        keys: &[&[u8]],
        asked: &[SmallVec<[At; 1]>],
        joined: &mut Replies,
    ) -> Option<Failure> {
        let start = joined.bytes.len();
        let mut failed = None;
        for (value, asked) in self.values(keys, asked).into_iter().zip(asked) {
            let Some(value) = value else {
                let error =
                    |reply: &&[u8]| !reply.starts_with(b"VALUE ") && !reply.starts_with(b"END");
                let replies = || asked.iter().filter_map(|at| self.reply(*at));
                if let Some(error) = replies().find(error) {
                    joined.bytes.truncate(start);
                    joined.bytes.extend_from_slice(error);
                    return None;
                }
                if replies().next().is_none() {
                    failed = failed.or_else(|| asked.first().map(|at| self.failure(*at)));
                }
                continue;
            };
            joined.bytes.extend_from_slice(value);
        }
        if failed.is_none() {
            joined.bytes.extend_from_slice(b"END\r\n");
        }
        failed
    }

    fn join_all(&self, places: &[At], joined: &mut Replies) -> Option<Failure> {
        if let Some(failed) = places.iter().find(|at| self.reply(**at).is_none()) {
            return Some(self.failure(*failed));
        }
        let specification = |(part, index): &At| match &self.parts[*part].state {
            PartState::Answered(replies) => {
                Specification(replies.batch.commands[*index].specification)
            }
            PartState::Collecting(_) | PartState::Sent(_) => Specification(u16::MAX),
        };
        let is_refused = |at: &&At| {
            let reply = self.reply(**at).unwrap_or_default();
            answer(specification(at), reply) != Answer::Done
        };
        let chosen = places.iter().find(is_refused).or(places.first());
        let reply = chosen.and_then(|at| self.reply(*at));
        joined.bytes.extend_from_slice(reply.unwrap_or_default());
        None
    }
}
