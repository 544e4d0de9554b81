//! What the table knows of one command.

use std::borrow::Cow;

use super::{Control, Effect, KeySpecification};
use crate::protocol::Class;

bitflags::bitflags! {
    /// What a command is, in the datastore's own words where it has them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// It may change data.
        const WRITE = 1;
        /// It reads data and never changes it.
        const READONLY = 1 << 1;
        /// Its keys are found only by looking at its arguments.
        const MOVABLE_KEYS = 1 << 2;
        /// It may block its connection.
        const BLOCKING = 1 << 3;
        /// It has subcommands, each with a specification of its own.
        const CONTAINER = 1 << 4;
    }
}

/// Which arguments decide what a command is, where its name does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// None: the specification's class, control and effect are final.
    Fixed,
    /// The second argument names a subcommand.
    Container,
    /// SET: a condition (NX, XX, IFEQ ...) needs the reply.
    Set,
    /// EXPIRE and family: an option is a condition.
    Expire,
    /// GETEX: without an option it reads.
    GetEx,
    /// BITFIELD: with GET only it reads.
    BitField,
    /// MSETEX: NX and XX need the reply.
    MSetEx,
    /// HEXPIRE and family: NX, XX, GT and LT need the reply.
    HExpire,
    /// HSETEX: FNX, FXX, NX and XX need the reply.
    HSetEx,
    /// HGETEX: without an option it reads.
    HGetEx,
    /// ZADD: INCR, NX, XX, GT and LT need the reply.
    ZAdd,
    /// GEOADD: NX and XX need the reply.
    GeoAdd,
    /// GEORADIUS and GEORADIUSBYMEMBER: without STORE it reads.
    GeoRadius,
    /// SORT: without STORE it reads.
    Sort,
    /// XADD: an id the datastore makes, or approximate trimming.
    XAdd,
    /// XTRIM: approximate trimming.
    XTrim,
    /// XREAD and XREADGROUP: BLOCK blocks.
    XRead,
    /// MIGRATE: with COPY it reads.
    Migrate,
}

impl Rule {
    /// Whether the arguments can change the class or the control, and not only
    /// the effect. For the others classification looks at the name alone.
    pub(super) const fn decides_class(self) -> bool {
        matches!(
            self,
            Rule::Container
                | Rule::GetEx
                | Rule::BitField
                | Rule::HGetEx
                | Rule::GeoRadius
                | Rule::Sort
                | Rule::XRead
                | Rule::Migrate
        )
    }
}

/// One command, or one subcommand of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification {
    /// In upper case; a subcommand's name follows its container's after a
    /// space (`XGROUP CREATE`).
    pub name: Cow<'static, str>,
    /// How many arguments it takes, its name (and container) included;
    /// negative for at least that many. The most lenient of all versions.
    pub arity: i32,
    /// What it is.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: KeySpecification,
    /// What it means for the journal unless `rule` says otherwise.
    pub class: Class,
    /// What it does to its connection unless `rule` says otherwise.
    pub control: Option<Control>,
    /// How its effect is known unless `rule` says otherwise.
    pub effect: Effect,
    /// Which arguments decide where the name does not.
    pub rule: Rule,
}

impl Specification {
    /// Whether a command of `arguments` arguments, its name included, is one
    /// the datastore would run. All others are answered with an error.
    #[inline]
    pub fn accepts(&self, arguments: usize) -> bool {
        arity_accepts(self.arity, arguments)
    }
}

/// The arity convention of `COMMAND`: exact, or negative for at least.
#[inline]
pub(super) fn arity_accepts(arity: i32, arguments: usize) -> bool {
    let least = arity.unsigned_abs() as usize;
    if arity < 0 {
        least <= arguments
    } else {
        least == arguments
    }
}

/// One line of the built-in table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpecification,
    class: Class,
    control: Option<Control>,
    effect: Effect,
    rule: Rule,
}

impl Row {
    /// A command that reads data, or asks or tells the datastore something
    /// that is no data.
    pub(super) const fn read(name: &'static str, arity: i32, keys: KeySpecification) -> Row {
        Row {
            name,
            arity,
            flags: Flags::READONLY,
            keys,
            class: Class::Read,
            control: None,
            effect: Effect::None,
            rule: Rule::Fixed,
        }
    }

    /// A command that has no keys and changes no data, nor its connection.
    pub(super) const fn other(name: &'static str, arity: i32) -> Row {
        let mut row = Row::read(name, arity, KeySpecification::None);
        row.flags = Flags::empty();
        row
    }

    /// A command that may change data.
    pub(super) const fn write(
        name: &'static str,
        arity: i32,
        keys: KeySpecification,
        effect: Effect,
    ) -> Row {
        let mut row = Row::read(name, arity, keys);
        row.flags = Flags::WRITE;
        row.class = Class::Mutation;
        row.effect = effect;
        row
    }

    /// A command that changes its connection.
    pub(super) const fn control(name: &'static str, arity: i32, control: Control) -> Row {
        Row::control_of(name, arity, KeySpecification::None, control)
    }

    /// A command that changes its connection for the sake of some keys.
    pub(super) const fn control_of(
        name: &'static str,
        arity: i32,
        keys: KeySpecification,
        control: Control,
    ) -> Row {
        let mut row = Row::read(name, arity, keys);
        row.flags = Flags::empty();
        row.class = Class::Control;
        row.control = Some(control);
        row
    }

    /// A command with subcommands; what no row names is answered with an error.
    pub(super) const fn container(name: &'static str, arity: i32) -> Row {
        Row::other(name, arity).rule(Rule::Container)
    }

    /// The same, whose arguments decide.
    pub(super) const fn rule(mut self, rule: Rule) -> Row {
        self.rule = rule;
        self
    }

    /// The same, which blocks.
    pub(super) const fn blocking(mut self) -> Row {
        self.control = Some(Control::Blocking);
        self
    }

    /// The row as the table holds it.
    pub(super) fn specification(&self) -> Specification {
        let mut flags = self.flags;
        flags.set(Flags::MOVABLE_KEYS, self.keys.movable());
        flags.set(Flags::CONTAINER, self.rule == Rule::Container);
        let blocks = self.control == Some(Control::Blocking) || self.rule == Rule::XRead;
        flags.set(Flags::BLOCKING, blocks);
        Specification {
            name: Cow::Borrowed(self.name),
            arity: self.arity,
            flags,
            keys: self.keys.clone(),
            class: self.class,
            control: self.control,
            effect: self.effect,
            rule: self.rule,
        }
    }
}
