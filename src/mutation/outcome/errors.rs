//! Error replies to commands that are not final.

use super::{rejected, unknown};
use crate::mutation::Outcome;
use crate::protocol::resp::commands::{Effect, Resolve};

const MAY_HAVE_WRITTEN: &str = "the command may have written before it failed";

pub(super) fn outcome(effect: Effect, arguments: &[&[u8]], error: &[u8]) -> Outcome {
    let may_have_written = match effect {
        Effect::Opaque => !is_refusal(arguments, error),
        // It deletes the keys one by one, as the target acknowledges them.
        Effect::Resolved(Resolve::Migrate) => !is_refusal(arguments, error),
        // The datastore checks all arguments of its own commands, and the
        // types of all keys, before it changes anything.
        _ => false,
    };
    if may_have_written {
        unknown(MAY_HAVE_WRITTEN)
    } else {
        rejected(error)
    }
}

/// Codes that tell that a command was refused before it began, even where it
/// is a script, and even where the script caught the error of a command it
/// called and returned it.
///
/// - NOAUTH, LOADING, BUSY, MOVED, ASK, CROSSSLOT, TRYAGAIN, CLUSTERDOWN,
///   MASTERDOWN: found out before a client's command is executed; the same
///   conditions have another text where a script meets them.
/// - NOSCRIPT: of EVALSHA, which scripts can't call.
/// - READONLY, MISCONF, NOREPLICAS: refuse every write, so where the first is
///   refused, so is the rest.
///
/// OOM and NOPERM are not among them, for they refuse some writes and not
/// others. A script that makes up an error with one of these codes after it
/// has written is not seen through.
const REFUSALS: [&str; 13] = [
    "NOAUTH",
    "LOADING",
    "BUSY",
    "MOVED",
    "ASK",
    "CROSSSLOT",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOSCRIPT",
    "READONLY",
    "MISCONF",
    "NOREPLICAS",
];

fn is_refusal(arguments: &[&[u8]], error: &[u8]) -> bool {
    let Ok(error) = std::str::from_utf8(error) else {
        return false;
    };
    let Some(name) = arguments.first() else {
        return false;
    };
    let code = error.split(' ').next().unwrap_or_default();
    if REFUSALS.contains(&code) {
        return true;
    }
    match code {
        "OOM" => {
            !runs_a_script(name) || error.starts_with("OOM allow-oom flag is not set on the script")
        }
        // Before 7.2 without a code of its own inside of scripts, with "ACL
        // failure in script" from then on. A caught error looks the same as
        // the client's own, but for the name of the refused command.
        "NOPERM" => !runs_a_script(name) || names_command(error, name, "run the '"),
        "ERR" => {
            names_command(error, name, "ERR wrong number of arguments for '")
                || names_command(error, name, "ERR unknown command '")
                || arguments
                    .get(1)
                    .is_some_and(|part| names_command(error, part, "ERR unknown subcommand '"))
        }
        _ => false,
    }
}

fn runs_a_script(name: &[u8]) -> bool {
    let starts_with = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    starts_with("EVAL") || starts_with("FCALL")
}

/// Whether `error` has `before`, and after it the command's name and a quote.
fn names_command(error: &str, name: &[u8], before: &str) -> bool {
    let Some(start) = error.find(before) else {
        return false;
    };
    let after = &error.as_bytes()[start + before.len()..];
    after.len() > name.len()
        && after[..name.len()].eq_ignore_ascii_case(name)
        && after[name.len()] == b'\''
}
