//! What one command line is, and how much of what follows belongs to it.
//!
//! The two versions of memcached disagree about when data follows a line that
//! is not quite right: one goes on with the next line where the other swallows
//! the data. Such a line is refused and ends the connection.

use super::line::{NOREPLY, Tokens, Words};
use super::verbs::{Specification, Verb};
use super::{KEY_BYTES_MAX, meta, number};
use crate::protocol::{Class, ParseError};

/// memcached's text for a line that it cannot take.
pub const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";

/// memcached's text for a line that it does not know.
pub const UNKNOWN: &str = "ERROR";

/// memcached's text for a value that is larger than it may store.
pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

/// No text: memcached closes the connection without a word.
pub const SILENT: &str = "";

/// A command line that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The verb, and how it is forwarded.
    pub specification: Specification,
    /// What it means for the journal.
    pub class: Class,
    /// How long the value is that follows, its end of line not counted.
    pub data: Option<u32>,
}

impl Verdict {
    fn new(specification: Specification, changes: bool) -> Verdict {
        let class = match specification.row().map(|row| row.class) {
            // What memcached is sure to refuse changes nothing.
            Some(Class::Mutation) if !changes => Class::Read,
            Some(class) => class,
            None => Class::Control,
        };
        Verdict {
            specification,
            class,
            data: None,
        }
    }

    fn plain(verb: Verb) -> Verdict {
        Verdict::new(Specification::new(verb), true)
    }
}

/// Judges a line without its end.
#[inline]
pub fn judge(line: &[u8]) -> Result<Verdict, ParseError> {
    let mut verdict = judge_words(line)?;
    // 1.6.45 does not know what has spaces before it; 1.6.18 does not mind.
    if line.first() == Some(&b' ') {
        verdict.specification = verdict.specification.with_rewritten(true);
    }
    Ok(verdict)
}

#[inline]
fn judge_words(line: &[u8]) -> Result<Verdict, ParseError> {
    let name = Words::new(line).next().unwrap_or_default();
    match name {
        b"get" => Ok(get(Verb::Get, line)),
        b"gets" => Ok(get(Verb::Gets, line)),
        b"gat" => Ok(get_and_touch(Verb::Gat, line)),
        b"gats" => Ok(get_and_touch(Verb::Gats, line)),
        // An old name that 1.6.45 has forgotten.
        b"bget" => Ok(get(Verb::Get, line)),
        b"set" => storage(Verb::Set, line),
        b"add" => storage(Verb::Add, line),
        b"replace" => storage(Verb::Replace, line),
        b"append" => storage(Verb::Append, line),
        b"prepend" => storage(Verb::Prepend, line),
        b"cas" => storage(Verb::Cas, line),
        b"ms" => meta_set(line),
        [b'm', name] => {
            let (specification, changes) = meta::judge(*name, &Tokens::new(line));
            Ok(Verdict::new(specification, changes))
        }
        _ => other(name, &Tokens::new(line)),
    }
}

/// A key that is too long makes 1.6.18 forget replies that it has not sent yet,
/// which may be other clients': not forwarded.
fn get(verb: Verb, line: &[u8]) -> Verdict {
    let is_too_long = |key: &[u8]| key.len() > KEY_BYTES_MAX;
    if Words::new(line).skip(1).any(is_too_long) {
        return Verdict::plain(Verb::LocalBadFormat);
    }
    Verdict::plain(verb)
}

fn get_and_touch(verb: Verb, line: &[u8]) -> Verdict {
    let mut words = Words::new(line).skip(1);
    let exptime = words.next().and_then(number::lenient_cut);
    let mut keys = words.peekable();
    let changes = exptime.is_some() && keys.peek().is_some();
    if keys.any(|key| key.len() > KEY_BYTES_MAX) {
        return Verdict::plain(Verb::LocalBadFormat);
    }
    Verdict::new(Specification::new(verb), changes)
}

/// `set key flags exptime length [noreply]`; `cas` has its number before the
/// last.
fn storage(verb: Verb, line: &[u8]) -> Result<Verdict, ParseError> {
    let tokens = Tokens::new(line);
    let count_min = if verb == Verb::Cas { 6 } else { 5 };
    let is_count = (count_min..=count_min + 1).contains(&tokens.count());
    let noreply = tokens.ends_with_noreply();
    let specification = Specification::new(verb)
        .with_quiet(noreply && is_count)
        .with_rewritten(noreply);
    let mut verdict = Verdict::new(specification, false);

    let length = tokens.get(4).unwrap_or_default();
    let Some(data) = number::strict_length(length) else {
        // Where no version takes the length, none waits for data.
        return match number::is_lenient_length(length) {
            true => Err(refused(BAD_FORMAT)),
            false => Ok(verdict),
        };
    };
    if !is_count {
        return Err(refused(UNKNOWN));
    }
    let fields = tokens.key(1).is_some()
        && tokens.get(2).and_then(number::lenient_unsigned).is_some()
        && tokens.get(3).and_then(number::lenient_cut).is_some();
    let cas = verb != Verb::Cas || tokens.get(5).and_then(number::strict_long).is_some();
    if !fields || !cas {
        return Err(refused(BAD_FORMAT));
    }
    verdict.class = Class::Mutation;
    verdict.data = Some(data);
    Ok(verdict)
}

/// `ms key length flags`.
fn meta_set(line: &[u8]) -> Result<Verdict, ParseError> {
    let tokens = Tokens::new(line);
    let length = tokens.get(2).unwrap_or_default();
    let Some(data) = number::strict_length(length) else {
        return match number::is_lenient_length(length) {
            true => Err(refused(BAD_FORMAT)),
            false => Ok(Verdict::new(Specification::new(Verb::MetaSet), false)),
        };
    };
    if tokens.key(1).is_none() {
        return Err(refused(BAD_FORMAT));
    }
    if tokens.count() >= meta::TOKENS_REFUSED {
        return Err(refused("CLIENT_ERROR options flags too long"));
    }
    let (specification, changes) = meta::judge_set(&tokens);
    let mut verdict = Verdict::new(specification, changes);
    verdict.data = Some(data);
    Ok(verdict)
}

/// All that is one line with one reply.
fn other(name: &[u8], tokens: &Tokens<'_>) -> Result<Verdict, ParseError> {
    let count = tokens.count();
    let key = tokens.key(1).is_some();
    let argument = tokens.get(2).unwrap_or_default();
    // Which commands heed `noreply`, and with how many tokens, is 1.6.18's way.
    let (verb, changes, heeds) = match name {
        b"delete" => (Verb::Delete, key, (3..=4).contains(&count)),
        b"incr" | b"decr" => {
            let verb = match name {
                b"incr" => Verb::Increment,
                _ => Verb::Decrement,
            };
            let delta = number::lenient_unsigned(argument).is_some();
            (verb, key && delta, (3..=4).contains(&count))
        }
        b"touch" => {
            let exptime = number::lenient_cut(argument).is_some();
            (Verb::Touch, key && exptime, (3..=4).contains(&count))
        }
        b"flush_all" => (Verb::FlushAll, flushes(tokens), (2..=3).contains(&count)),
        b"version" => return Ok(Verdict::plain(Verb::Version)),
        b"stats" => return Ok(Verdict::plain(statistics(tokens))),
        b"quit" => return Ok(Verdict::plain(Verb::Quit)),
        b"verbosity" => (Verb::Verbosity, true, (2..=3).contains(&count)),
        b"cache_memlimit" => (Verb::CacheMemlimit, true, (2..=3).contains(&count)),
        b"slabs" => (
            Verb::Slabs,
            true,
            count >= 3 && tokens.get(1) == Some(b"automove"),
        ),
        b"lru" => (Verb::Lru, true, count >= 2),
        b"lru_crawler" => (lru_crawler(tokens), true, false),
        b"extstore" => (Verb::Extstore, true, count >= 2),
        b"misbehave" => (Verb::Misbehave, true, false),
        b"refresh_certs" => (Verb::RefreshCertificates, true, true),
        b"watch" => (Verb::Watch, true, true),
        b"shutdown" => (Verb::Shutdown, true, false),
        _ => return unknown(tokens),
    };
    // More tokens than memcached splits at once: none of these has so many.
    if tokens.more {
        return Ok(Verdict::plain(Verb::LocalUnknown));
    }
    let noreply = tokens.ends_with_noreply();
    let specification = Specification::new(verb)
        .with_quiet(noreply && heeds)
        .with_rewritten(noreply);
    Ok(Verdict::new(specification, changes))
}

/// Whether `flush_all [delay] [noreply]` has a delay that is a number, or none.
fn flushes(tokens: &Tokens<'_>) -> bool {
    match tokens.all() {
        [_] => true,
        [_, word] if *word == NOREPLY => true,
        [_, delay, ..] => number::lenient_cut(delay).is_some(),
        [] => false,
    }
}

/// 1.6.45 takes any beginning of a subcommand for it. What prints keys as they
/// are prints the ends of lines that are in them, so it is not for a shared
/// link.
fn statistics(tokens: &Tokens<'_>) -> Verb {
    match tokens.get(1) {
        Some(of) if b"cachedump".starts_with(of) || b"detail".starts_with(of) => {
            Verb::StatisticsOfKeys
        }
        _ => Verb::Statistics,
    }
}

/// A dump comes from another thread of memcached, which insists on a
/// connection with nothing else on it.
fn lru_crawler(tokens: &Tokens<'_>) -> Verb {
    match tokens.get(1) {
        Some(what) if b"metadump".starts_with(what) || b"mgdump".starts_with(what) => {
            Verb::LruCrawlerDump
        }
        _ => Verb::LruCrawler,
    }
}

/// What no version knows is answered here: another server might know it, and
/// change something by it.
fn unknown(tokens: &Tokens<'_>) -> Result<Verdict, ParseError> {
    let last = tokens.all().last().copied().unwrap_or_default();
    if last.starts_with(b"HTTP/") {
        return Err(refused(SILENT));
    }
    Ok(Verdict::plain(Verb::LocalUnknown))
}

/// The error that ends a connection with `text`.
#[cold]
pub fn refused(text: &'static str) -> ParseError {
    ParseError(text.into())
}

#[cfg(test)]
mod tests;
