//! The table itself: specifications, and an index of their names.

use std::collections::HashMap;

use super::name::{LONGEST_FOLDED, Name};
use super::rules;
use super::{Control, Effect, Rule, Specification};
use crate::protocol::{Class, Command};

/// The most specifications a table can have: indexes are 16 bits wide, and one
/// of them means "none".
pub(super) const MAX_SPECIFICATIONS: usize = Command::UNKNOWN as usize;

/// The parent of what is no subcommand, and the slot of no specification.
pub(super) const NOTHING: u16 = u16::MAX;

/// Slots per specification; a sparse index makes a first probe hit.
const SLOTS_PER_SPECIFICATION: usize = 4;

/// What every command means, immutable, to be shared by reference count.
#[derive(Debug, Clone)]
pub struct Table {
    specifications: Vec<Specification>,
    /// By index, as the specifications are.
    entries: Vec<Entry>,
    /// Open addressing by [`Name::hash`]; [`NOTHING`] ends a search.
    slots: Box<[u16]>,
    /// The names too long to fold, in upper case, with their parents.
    long: HashMap<(u16, Vec<u8>), u16>,
}

/// What classification has to know of a specification, in one cache line.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// [`Name::NONE`] where it is too long.
    name: Name,
    parent: u16,
    pub(super) rule: Rule,
    pub(super) class: Class,
    pub(super) control: Option<Control>,
    pub(super) arity: i32,
}

impl Table {
    /// The commands of Redis 7 and 8 and of Valkey 8 and 9.
    pub fn built_in() -> Table {
        Table::new(super::rows::specifications())
    }

    /// A table of `specifications`, a container before its subcommands. Of two
    /// with one name the first is found.
    pub(super) fn new(specifications: Vec<Specification>) -> Table {
        assert!(specifications.len() <= MAX_SPECIFICATIONS);
        let slots = (specifications.len() * SLOTS_PER_SPECIFICATION).next_power_of_two();
        let mut table = Table {
            specifications: Vec::with_capacity(specifications.len()),
            entries: Vec::with_capacity(specifications.len()),
            slots: vec![NOTHING; slots.max(2)].into(),
            long: HashMap::new(),
        };
        for specification in specifications {
            table.push(specification);
        }
        table
    }

    fn push(&mut self, specification: Specification) {
        let index = self.specifications.len() as u16;
        let (parent, name) = match specification.name.split_once(' ') {
            None => (NOTHING, &*specification.name),
            Some((container, name)) => {
                let parent = self.position(NOTHING, container.as_bytes());
                (parent.expect("containers are before their parts"), name)
            }
        };
        let folded = Name::fold(name.as_bytes());
        if let Some(folded) = folded {
            let mut slot = self.first_slot(&folded, parent);
            while self.slots[slot] != NOTHING {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = index;
        } else {
            let name = name.as_bytes().to_ascii_uppercase();
            self.long.entry((parent, name)).or_insert(index);
        }
        self.entries.push(Entry {
            name: folded.unwrap_or(Name::NONE),
            parent,
            rule: specification.rule,
            class: specification.class,
            control: specification.control,
            arity: specification.arity,
        });
        self.specifications.push(specification);
    }

    #[inline]
    fn first_slot(&self, name: &Name, parent: u16) -> usize {
        let shift = u64::BITS - self.slots.len().trailing_zeros();
        (name.hash(parent) >> shift) as usize
    }

    /// The index of the command `name`, in any case, of the container `parent`.
    pub(super) fn position(&self, parent: u16, name: &[u8]) -> Option<u16> {
        match Name::fold(name) {
            Some(folded) => self.position_of(parent, folded),
            None => self.position_of_long(parent, name),
        }
    }

    /// The index of the command whose name is from `start` to `end` in `bytes`.
    #[inline]
    pub(super) fn position_within(&self, bytes: &[u8], start: usize, end: usize) -> Option<u16> {
        match Name::fold_within(bytes, start, end) {
            Some(folded) => self.position_of(NOTHING, folded),
            None => self.position_of_long(NOTHING, bytes.get(start..end)?),
        }
    }

    #[inline]
    fn position_of(&self, parent: u16, name: Name) -> Option<u16> {
        let mut slot = self.first_slot(&name, parent);
        loop {
            let index = self.slots[slot];
            if index == NOTHING {
                return None;
            }
            let entry = &self.entries[usize::from(index)];
            if entry.name == name && entry.parent == parent {
                return Some(index);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    #[cold]
    fn position_of_long(&self, parent: u16, name: &[u8]) -> Option<u16> {
        if name.len() <= LONGEST_FOLDED || self.long.is_empty() {
            return None;
        }
        let key = (parent, name.to_ascii_uppercase());
        self.long.get(&key).copied()
    }

    #[inline]
    pub(super) fn entry(&self, index: u16) -> &Entry {
        &self.entries[usize::from(index)]
    }

    /// The specification at `index`, which classification gave.
    ///
    /// # Panics
    /// Where `index` is [`Command::UNKNOWN`] or from a larger table.
    pub fn specification(&self, index: u16) -> &Specification {
        &self.specifications[usize::from(index)]
    }

    /// Every specification, in the order of their indexes.
    pub fn specifications(&self) -> &[Specification] {
        &self.specifications
    }

    /// The index of the command `name`, in any case; a subcommand's follows
    /// its container's after a space (`client setname`).
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        match name.iter().position(|byte| *byte == b' ') {
            None => self.position(NOTHING, name),
            Some(at) => {
                let parent = self.position(NOTHING, &name[..at])?;
                self.position(parent, &name[at + 1..])
            }
        }
    }

    /// How the effect of this very command is known: what the specification
    /// says, narrowed by `arguments` (the name first). [`Effect::None`] where
    /// it turns out to change nothing (GETEX without an option, SORT without
    /// STORE ...) and for [`Command::UNKNOWN`].
    pub fn effect(&self, index: u16, arguments: &[&[u8]]) -> Effect {
        let Some(specification) = self.specifications.get(usize::from(index)) else {
            return Effect::None;
        };
        let mut rest = arguments.iter().copied().skip(1);
        rules::effect(specification.rule, specification.effect, &mut rest)
    }

    /// Calls `each` with the index of each key among `arguments` (the name
    /// first), in the order the datastore names them.
    pub fn keys(&self, index: u16, arguments: &[&[u8]], mut each: impl FnMut(usize)) {
        if let Some(specification) = self.specifications.get(usize::from(index)) {
            specification.keys.each(arguments, &mut each);
        }
    }
}
