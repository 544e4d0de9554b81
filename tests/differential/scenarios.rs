//! Conversations that chance would rarely find.

use std::io::ErrorKind;
use std::time::Duration;

use crate::compare::same_frames;
use crate::pair::{Pair, shown};
use crate::support::resp::encode;
use crate::support::{Client, Random};

/// Who says nothing for so long has said all, as a rule.
const SILENCE: Duration = Duration::from_millis(25);
/// A reply that the direct side gave comes within this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// What stands for the end of a connection.
const SILENT: &[u8] = b"(silence)";
const CLOSED: &[u8] = b"(closed)";

/// One line a command, said by the connection its letter names; lines of the
/// same letter that follow one another are sent at once. `A!` waits for the
/// replies before what follows is sent.
pub type Scenario = &'static str;

pub const SCENARIOS: &[Scenario] = &[
    // A database selected within a transaction is the client's afterwards.
    "A MULTI|A SELECT 3|A SET k 3|A EXEC|A! GET k|A SELECT 0|A GET k|A SELECT 3|A GET k",
    "A MULTI|A SELECT 99|A SET k 0|A EXEC|A! GET k|A SET k 1|B GET k|B SELECT 3|B GET k",
    "A MULTI|A SELECT 3x|A EXEC|A! SET k 1|B GET k",
    "A MULTI|A SELECT 3|A SET k 3|A DISCARD|A! GET k|A SET k 0|B GET k",
    "A WATCH k|B SET k b|A MULTI|A SELECT 3|A EXEC|A! SET k a|B GET k|B SELECT 3|B GET k",
    "A MULTI|A SELECT 3|A SELECT 99|A EXEC|A! SET k a|B SELECT 3|B GET k",
    // What changes who a client is, within a transaction.
    "A MULTI|A HELLO 3|A EXEC|A! CLIENT GETNAME|A HGETALL none|A HELLO 2|A! CLIENT GETNAME|A HGETALL none",
    "A MULTI|A CLIENT SETNAME inner|A EXEC|A! CLIENT GETNAME|A UNWATCH|A! CLIENT GETNAME",
    "A CLIENT SETNAME outer|A MULTI|A CLIENT GETNAME|A EXEC|A! CLIENT GETNAME",
    "A MULTI|A CLIENT GETNAME|A EXEC",
    "A MULTI|A HELLO 3 SETNAME x|A HELLO 9|A EXEC|A! CLIENT GETNAME|A RESET|A CLIENT GETNAME",
    "A MULTI|A AUTH nobody x|A EXEC|A! SET k v|A ACL WHOAMI",
    // Not ended by what looks like an end.
    "A MULTI|A SET k v|A EXEC x|A GET k|A EXEC|A! GET k",
    "A SELECT 1|A MULTI|A EXEC x|A SELECT 0|A EXEC|A! SET k a|B GET k",
    "A WATCH k|A MULTI|A EXEC x|A! GET k|B SET k b|A SELECT 3|A! SET k a|B GET k",
    "A MULTI|A SET k v|A DISCARD x|A GET k|A DISCARD|A! GET k",
    "A MULTI|A MULTI|A SET k v|A EXEC|A! GET k",
    "A MULTI|A WATCH k|A SET k v|A EXEC|A! GET k",
    "A MULTI|A NOSUCH|A SET k v|A EXEC|A! GET k",
    "A MULTI|A SET k|A SET k v|A EXEC|A! GET k",
    "A EXEC|A DISCARD|A UNWATCH|A MULTI|A EXEC",
    "A MULTI|A RESET|A! SET k v|A GET k",
    "A MULTI|A SUBSCRIBE c|A EXEC|A! PING x|A UNSUBSCRIBE|A! PING x|A GET k",
    "A MULTI|A UNSUBSCRIBE|A EXEC|A! GET k",
    "A MULTI|A BLPOP none 0|A BLMOVE none k LEFT LEFT 0|A EXEC|A! GET k",
    "A MULTI|A CLIENT NO-EVICT ON|A CLIENT TRACKINGINFO|A EXEC|A! GET k",
    "A MULTI|A QUIT",
    // Replies turned off change nothing else.
    "A CLIENT REPLY OFF|A SELECT 3|A CLIENT REPLY ON|A! SET k 3|B GET k|B SELECT 3|B GET k",
    "A CLIENT REPLY OFF|A MULTI|A SET k 3|A DISCARD|A CLIENT REPLY ON|A! GET k",
    "A CLIENT REPLY OFF|A MULTI|A SET k 3|A EXEC|A CLIENT REPLY ON|A! GET k|B GET k",
    "A CLIENT REPLY OFF|A HELLO 3|A CLIENT REPLY ON|A! HGETALL none|A CLIENT GETNAME",
    "A CLIENT REPLY OFF|A CLIENT SETNAME x|A CLIENT REPLY ON|A! CLIENT GETNAME|A UNWATCH|A! CLIENT GETNAME",
    "A CLIENT REPLY OFF|A WATCH k|A CLIENT REPLY ON|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC|A! GET k",
    "A CLIENT REPLY OFF|A SUBSCRIBE c|A CLIENT REPLY ON|B PUBLISH c x|A! PING y|A RESET|A GET k",
    "A HELLO 3|A! CLIENT REPLY OFF|A SUBSCRIBE c|A PING|B PUBLISH c x|A CLIENT REPLY ON|A! PING y",
    "A CLIENT REPLY SKIP|A MULTI|A SET k v|A EXEC|A! GET k",
    "A CLIENT REPLY SKIP|A SELECT 3|A! SET k v|B GET k|B SELECT 3|B GET k",
    "A CLIENT REPLY SKIP|A HELLO 3|A! HGETALL none",
    "A CLIENT REPLY SKIP|A CLIENT REPLY SKIP|A GET k|A PING",
    "A CLIENT REPLY SKIP|A CLIENT REPLY OFF|A GET k|A CLIENT REPLY ON|A PING",
    "A CLIENT REPLY SKIP|A CLIENT GETNAME|A PING",
    "A CLIENT REPLY SKIP|A SUBSCRIBE c|A! PING x",
    "A CLIENT REPLY OFF|A CLIENT REPLY SKIP|A PING|A CLIENT REPLY ON|A PING",
    "A CLIENT REPLY SKIP|A NOSUCH|A PING|A CLIENT REPLY SKIP|A SET k|A PING",
    "A CLIENT REPLY OFF|A RESET|A PING",
    "A CLIENT REPLY SKIP|A RESET|A PING",
    "A CLIENT REPLY OFF|A BLPOP none 0.01|A SET k v|A CLIENT REPLY ON|A! GET k",
    // Names.
    "A CLIENT SETNAME x|A WATCH k|A! CLIENT GETNAME|A CLIENT SETNAME y|A UNWATCH|A! CLIENT GETNAME",
    "A WATCH k|A CLIENT SETNAME bad%name|A CLIENT GETNAME|A UNWATCH|A! CLIENT GETNAME",
    "A HELLO 3 SETNAME x|A CLIENT GETNAME|A HELLO 2|A CLIENT GETNAME|A RESET|A CLIENT GETNAME",
    "A WATCH k|A HELLO 3 SETNAME x|A CLIENT GETNAME|A UNWATCH|A! CLIENT GETNAME",
    // Subscriptions.
    "A SUBSCRIBE a b a|A UNSUBSCRIBE b|A! UNSUBSCRIBE|A! GET k|B PUBLISH a x|A PING",
    "A SUBSCRIBE a|A PSUBSCRIBE p*|A SSUBSCRIBE s|A! UNSUBSCRIBE|A! PUNSUBSCRIBE|A! GET k|A SUNSUBSCRIBE|A! GET k",
    "A SUBSCRIBE a|A! GET k|A MULTI|A SELECT 1|A PING|A PING x|A UNSUBSCRIBE a b|A! GET k",
    "A UNSUBSCRIBE|A PUNSUBSCRIBE x|A SUNSUBSCRIBE x y|A! GET k",
    "A HELLO 3|A SUBSCRIBE a|A! GET k|A SELECT 3|A SET k v|A PUBLISH a x|A! UNSUBSCRIBE|A! GET k|A PING",
    "A HELLO 3|A SUBSCRIBE a|A! MULTI|A PUBLISH a x|A GET k|A EXEC|A! PING",
    "A HELLO 3|A SUBSCRIBE a|A! HELLO 2|A! PING x|B PUBLISH a y|A! PING z|A UNSUBSCRIBE|A! PING",
    "A SUBSCRIBE a|A! RESET|A GET k|B PUBLISH a x|A PING",
    "A SUBSCRIBE a|A! SUBSCRIBE b|B PUBLISH a 1|B PUBLISH b 2|A! PING x|A QUIT",
    // Tracking.
    "A HELLO 3|A CLIENT TRACKING ON|A GET k|A! PING|B SET k v|A! PING|A CLIENT TRACKING OFF|A! GET k|B SET k w|A PING",
    "A HELLO 3|A CLIENT TRACKING ON OPTIN|A CLIENT CACHING YES|A GET k|A! PING|B SET k v|A! PING",
    "A HELLO 3|A CLIENT TRACKING ON BCAST PREFIX k|A! PING|B SET k v|A! PING|B SET x v|A PING",
    "A CLIENT TRACKING ON|A! PING|A CLIENT TRACKING ON|A! PING",
    "A HELLO 3|A CLIENT TRACKING ON|A GET k|A MULTI|A SET k 1|A GET k|A EXEC|A! PING",
    // Watched keys.
    "A WATCH k|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC|A! GET k",
    "A WATCH k|A UNWATCH|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC|A! GET k",
    "A WATCH k|A SELECT 1|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC|A! GET k|A SELECT 0|A GET k",
    "A WATCH k|A MULTI|A EXEC x|A EXEC|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC",
    "A WATCH k|A MULTI|A NOSUCH|A EXEC|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC",
    "A WATCH k|A HELLO 3|A! GET k|B SET k b|A MULTI|A SET k a|A EXEC|A! GET k",
    // Blocking in a pipeline.
    "A SET k v|A BLPOP none 0.01|A GET k|A SET k w|A BLPOP none 0.01|A GET k",
    "A RPUSH l a b c|A BLPOP l 0|A BRPOP l 0|A BLMOVE l l LEFT LEFT 0|A LRANGE l 0 -1",
    "A SELECT 3|A BLPOP none 0.01|A SET k 3|A SELECT 0|A GET k|B GET k",
    "A HELLO 3|A BLPOP none 0.01|A XREAD BLOCK 10 STREAMS none $|A HGETALL none",
    "A XREADGROUP GROUP g c BLOCK 10 STREAMS none >|A GET k",
    "A BLPOP k|A BLPOP k x|A BLPOP k -1|A GET k",
    // Databases.
    "A SELECT 3|A SET k 3|A SWAPDB 0 3|A! GET k|A SELECT 0|A GET k|B GET k",
    "A SELECT 16|A SELECT x|A SELECT -1|A SELECT 01|A SET k v|B SELECT 1|B GET k",
    "A SELECT 3|A MULTI|A SET k 3|A EXEC|A! GET k|A WATCH k|A SELECT 4|A SET k 4|A UNWATCH|A! GET k|B GET k",
];

/// Runs one; the error tells the difference.
pub fn run(scenario: Scenario, direct: u16, through: u16) -> Result<(), String> {
    let mut pairs = [
        Pair::connect(direct, through),
        Pair::connect(direct, through),
    ];
    // Nothing is cut here: the conversations are about state.
    let mut random = Random::new(scenario.len() as u64);
    let lines: Vec<&str> = scenario.split('|').collect();
    let mut at = 0;
    while at < lines.len() {
        let (who, _) = lines[at].split_at(1);
        let mut bytes = Vec::new();
        loop {
            let line = lines[at];
            let text = line[1..].trim_start_matches('!').trim_start();
            let arguments: Vec<String> =
                text.split(' ').map(|word| word.replace('%', " ")).collect();
            bytes.extend(encode(&arguments));
            at += 1;
            let is_last = lines.get(at).is_none_or(|next| !next.starts_with(who));
            if is_last || line[1..].starts_with('!') {
                break;
            }
        }
        let pair = &mut pairs[usize::from(who == "B")];
        pair.send(&bytes, &mut random);
        check(scenario, at, pair)?;
    }
    // What came too late to be seen, or was too much.
    pairs
        .iter_mut()
        .try_for_each(|pair| check(scenario, at, pair))
}

/// Compares all that the direct side says until it has been silent for a while:
/// there is no other sign that it is complete. What comes later is compared
/// with what comes next.
fn check(scenario: Scenario, at: usize, pair: &mut Pair) -> Result<(), String> {
    let mut direct = Vec::new();
    let is_end = at == scenario.split('|').count();
    let blocks = scenario.contains("0.01") || scenario.contains("BLOCK");
    let silence = SILENCE * if blocks { 10 } else { 1 } * if is_end { 2 } else { 1 };
    while !pair.direct.silent_for(silence) {
        let frame = next(&mut pair.direct);
        let is_over = frame == CLOSED || frame == SILENT;
        direct.push(frame);
        if is_over {
            break;
        }
    }
    let mut through: Vec<Vec<u8>> = Vec::new();
    while through.len() < direct.len() && through.last().is_none_or(|last| last != SILENT) {
        through.push(next(&mut pair.through));
    }
    if is_end && !direct.ends_with(&[CLOSED.to_vec()]) {
        while through
            .last()
            .is_none_or(|last| last != SILENT && last != CLOSED)
            && !pair.through.silent_for(SILENCE)
        {
            through.push(next(&mut pair.through));
        }
    }
    if same_frames(&direct, &through) {
        return Ok(());
    }
    Err(format!(
        "{scenario}\n  at line {at}\n  {}\n  instead of\n  {}",
        shown(&through).replace('\n', " "),
        shown(&direct).replace('\n', " ")
    ))
}

/// The next frame; what stands for the end or for too long a silence.
fn next(client: &mut Client) -> Vec<u8> {
    let timeout = client.stream().set_read_timeout(Some(PATIENCE));
    timeout.expect("a timeout above zero");
    match client.try_reply() {
        Ok(frame) => frame,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => CLOSED.to_vec(),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => CLOSED.to_vec(),
        Err(_) => SILENT.to_vec(),
    }
}
