//! Where a command's keys are among its arguments.

use super::walk::{integer, is};

/// Where a command's keys are. Indexes count arguments, the name being 0;
/// what an impossible count or position would name is left out, as the
/// datastore answers such a command with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySpecification {
    /// It has none.
    None,
    /// Every `step`th argument from `first` to `last`, which counts from the
    /// end where it is negative (-1 is the last argument).
    Range {
        /// Index of the first key.
        first: i32,
        /// Index of the last key.
        last: i32,
        /// From one key to the next.
        step: i32,
    },
    /// Argument `count` says how many keys follow it, `step` apart.
    Counted {
        /// Index of the number of keys.
        count: usize,
        /// From one key to the next.
        step: usize,
    },
    /// Argument 1 is a destination, argument 2 says how many keys follow it.
    StoreCounted,
    /// SORT: argument 1, and what the last STORE names.
    Sort,
    /// GEORADIUS and GEORADIUSBYMEMBER: argument 1, and what STORE and
    /// STOREDIST name.
    GeoRadius,
    /// MIGRATE: argument 3, or all after KEYS.
    Migrate,
    /// XREAD, XREADGROUP: the first half of what follows STREAMS.
    Streams,
    /// As the datastore's own `COMMAND` describes it.
    Searched(Box<[KeySearch]>),
}

/// One key specification of a `COMMAND` reply, Redis 7 and later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySearch {
    /// Where to start.
    pub begin: Begin,
    /// Which arguments from there are keys.
    pub find: Find,
}

/// `begin_search` of a key specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(i64),
    /// After the first argument that is `keyword` in any case, looking from
    /// argument `from`, backwards from the end where it is negative.
    Keyword {
        /// What to look for.
        keyword: Box<[u8]>,
        /// Where to look from.
        from: i64,
    },
}

/// `find_keys` of a key specification; indexes count from where it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// Up to `last`, negative for from the end; where `limit` is over 1 only
    /// the first of that many equal parts.
    Range {
        /// Offset of the last key.
        last: i64,
        /// From one key to the next.
        step: i64,
        /// In how many parts the rest divides; 0 and 1 for one.
        limit: i64,
    },
    /// As many as the argument at `count` says.
    Count {
        /// Offset of the number of keys.
        count: i64,
        /// Offset of the first key.
        first: i64,
        /// From one key to the next.
        step: i64,
    },
}

/// Argument 1.
pub(super) const ONE: KeySpecification = range(1, 1, 1);
/// Arguments 1 and 2.
pub(super) const TWO: KeySpecification = range(1, 2, 1);
/// Argument 2, after a subcommand.
pub(super) const SECOND: KeySpecification = range(2, 2, 1);
/// All arguments.
pub(super) const ALL: KeySpecification = range(1, -1, 1);
/// All arguments but the last.
pub(super) const BUT_LAST: KeySpecification = range(1, -2, 1);
/// Arguments 1, 3, 5 ...
pub(super) const PAIRS: KeySpecification = range(1, -1, 2);
/// Arguments 1, 4, 7 ...
pub(super) const TRIPLES: KeySpecification = range(1, -1, 3);
/// Argument 1 says how many pairs of a key and a value follow it.
pub(super) const COUNTED_PAIRS: KeySpecification = KeySpecification::Counted { count: 1, step: 2 };
/// None.
pub(super) const NONE: KeySpecification = KeySpecification::None;

/// Every `step`th argument from `first` to `last`.
pub(super) const fn range(first: i32, last: i32, step: i32) -> KeySpecification {
    KeySpecification::Range { first, last, step }
}

/// As many keys after argument `count` as it says.
pub(super) const fn counted(count: usize) -> KeySpecification {
    KeySpecification::Counted { count, step: 1 }
}

impl KeySpecification {
    /// Whether the keys' places depend on the arguments' contents.
    pub(super) const fn movable(&self) -> bool {
        !matches!(
            self,
            KeySpecification::None | KeySpecification::Range { .. }
        )
    }

    /// Calls `each` with the index of each key among `arguments`, in order.
    pub(super) fn each(&self, arguments: &[&[u8]], each: &mut dyn FnMut(usize)) {
        let total = arguments.len() as i64;
        match self {
            KeySpecification::None => {}
            &KeySpecification::Range { first, last, step } => {
                let last = from_end(i64::from(last), total);
                positions(i64::from(first), last, i64::from(step), total, each);
            }
            &KeySpecification::Counted { count, step } => {
                counted_keys(arguments, count, count + 1, step, each);
            }
            KeySpecification::StoreCounted => {
                positions(1, 1, 1, total, each);
                counted_keys(arguments, 2, 3, 1, each);
            }
            KeySpecification::Sort => {
                positions(1, 1, 1, total, each);
                sort_destination(arguments).into_iter().for_each(each);
            }
            KeySpecification::GeoRadius => {
                positions(1, 1, 1, total, each);
                geo_destinations(arguments, each);
            }
            KeySpecification::Migrate => migrated(arguments).for_each(each),
            KeySpecification::Streams => streams(arguments).for_each(each),
            KeySpecification::Searched(searches) => {
                for search in searches {
                    search.each(arguments, each);
                }
            }
        }
    }
}

impl KeySearch {
    fn each(&self, arguments: &[&[u8]], each: &mut dyn FnMut(usize)) {
        let total = arguments.len() as i64;
        let Some(begin) = self.begin.position(arguments) else {
            return;
        };
        match self.find {
            Find::Range { last, step, limit } => {
                let last = match last {
                    0.. => begin.saturating_add(last),
                    _ if limit <= 1 => total.saturating_add(last),
                    _ => (begin + (total - begin) / limit).saturating_add(last),
                };
                positions(begin, last, step, total, each);
            }
            Find::Count { count, first, step } => {
                let place = |offset: i64| usize::try_from(begin.saturating_add(offset));
                if let (Ok(count), Ok(first), Ok(step)) =
                    (place(count), place(first), usize::try_from(step))
                {
                    counted_keys(arguments, count, first, step, each);
                }
            }
        }
    }
}

impl Begin {
    fn position(&self, arguments: &[&[u8]]) -> Option<i64> {
        let total = arguments.len();
        match self {
            Begin::Index(index) => Some(*index),
            Begin::Keyword { keyword, from } => {
                let matches = |&at: &usize| arguments[at].eq_ignore_ascii_case(keyword);
                let start = usize::try_from(from_end(*from, total as i64)).ok()?;
                let found = if *from >= 0 {
                    (start.max(1)..total).find(matches)
                } else {
                    (1..=start.min(total.checked_sub(1)?)).rev().find(matches)
                };
                found.map(|at| at as i64 + 1)
            }
        }
    }
}

/// `index`, counted from the end of `total` where it is negative.
fn from_end(index: i64, total: i64) -> i64 {
    if index < 0 {
        total.saturating_add(index)
    } else {
        index
    }
}

/// Every `step`th position from `first` to `last`, both within `total`.
fn positions(first: i64, last: i64, step: i64, total: i64, each: &mut dyn FnMut(usize)) {
    let (Ok(first), Ok(step)) = (usize::try_from(first), usize::try_from(step)) else {
        return;
    };
    let end = last.min(total - 1).saturating_add(1);
    if let Ok(end) = usize::try_from(end)
        && first > 0
        && step > 0
    {
        (first..end).step_by(step).for_each(each);
    }
}

/// As many positions from `first` as argument `count` says, if there are.
fn counted_keys(
    arguments: &[&[u8]],
    count: usize,
    first: usize,
    step: usize,
    each: &mut dyn FnMut(usize),
) {
    let number = arguments.get(count).and_then(|number| integer(number));
    let Some(number) = number.and_then(|number| usize::try_from(number).ok()) else {
        return;
    };
    let step = step.max(1);
    let fits = number
        .checked_sub(1)
        .and_then(|gaps| gaps.checked_mul(step)?.checked_add(first))
        .is_some_and(|last| last < arguments.len());
    if fits {
        (0..number).map(|key| first + key * step).for_each(each);
    }
}

/// Where SORT stores: the argument after the last STORE that is no value of
/// LIMIT, GET or BY.
fn sort_destination(arguments: &[&[u8]]) -> Option<usize> {
    let mut at = 2;
    let mut destination = None;
    while at < arguments.len() {
        let option = arguments[at];
        if is(option, b"STORE") && at + 1 < arguments.len() {
            destination = Some(at + 1);
        }
        at += match option {
            _ if is(option, b"LIMIT") => 3,
            _ if is(option, b"GET") || is(option, b"BY") => 2,
            _ => 1,
        };
    }
    destination
}

/// Where GEORADIUS stores: the argument after STORE or STOREDIST. Of several
/// the last counts, but the datastore names them all.
fn geo_destinations(arguments: &[&[u8]], each: &mut dyn FnMut(usize)) {
    // GEORADIUSBYMEMBER's options begin at 5; GEORADIUS has its unit there,
    // which is never one of these words.
    let mut at = 5;
    while at + 1 < arguments.len() {
        if is(arguments[at], b"STORE") || is(arguments[at], b"STOREDIST") {
            at += 1;
            each(at);
        }
        at += 1;
    }
}

/// MIGRATE's keys: argument 3, or where that is empty all after KEYS.
fn migrated(arguments: &[&[u8]]) -> std::ops::Range<usize> {
    let total = arguments.len();
    let mut at = 6;
    while at < total {
        let option = arguments[at];
        if is(option, b"KEYS") {
            return match arguments[3].is_empty() {
                true => at + 1..total,
                false => 0..0,
            };
        }
        at += match option {
            _ if is(option, b"AUTH") => 2,
            _ if is(option, b"AUTH2") => 3,
            _ => 1,
        };
    }
    3.min(total)..4.min(total)
}

/// The streams of XREAD and XREADGROUP. STREAMS may also be the name of a
/// group, a consumer or a stream, so the options before it are walked.
fn streams(arguments: &[&[u8]]) -> std::ops::Range<usize> {
    let mut at = 1;
    while at < arguments.len() {
        let option = arguments[at];
        if is(option, b"STREAMS") {
            let first = at + 1;
            let rest = arguments.len() - first;
            return match rest % 2 {
                0 => first..first + rest / 2,
                _ => 0..0,
            };
        }
        at += match option {
            _ if is(option, b"BLOCK") || is(option, b"COUNT") || is(option, b"CLAIM") => 2,
            _ if is(option, b"GROUP") => 3,
            _ if is(option, b"NOACK") => 1,
            _ => break,
        };
    }
    0..0
}
