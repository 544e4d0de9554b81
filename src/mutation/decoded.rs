//! What has to be done to apply a decoded record.

use bytes::Bytes;

use super::v1::{self, outcome::Result, record::Body};

/// What a mutation comes to once its outcome is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Application<'a> {
    /// Deterministic commands, to be applied first and together.
    pub commands: &'a [v1::Command],
    /// Keys whose values have to be taken from the region of origin, after the
    /// commands were applied.
    pub unknown_keys: &'a [Bytes],
}

impl Application<'_> {
    const NOTHING: Application<'static> = Application {
        commands: &[],
        unknown_keys: &[],
    };
}

/// What applying a mutation record means, given its outcome, or none where
/// there is none or never will be (its writer died).
///
/// An intent without an outcome, or with one of a later version that this
/// version can't read, asks for the values of the mutation's keys. Records that
/// are no mutations come to nothing.
pub fn commands_to_apply<'a>(
    record: &'a v1::Record,
    outcome: Option<&'a v1::Outcome>,
) -> Application<'a> {
    let Some(Body::Mutation(mutation)) = &record.body else {
        return Application::NOTHING;
    };
    let own_keys = Application {
        commands: &[],
        unknown_keys: &mutation.keys,
    };
    let Some(outcome) = outcome else {
        return if mutation.r#final {
            Application {
                commands: &mutation.commands,
                unknown_keys: &[],
            }
        } else {
            own_keys
        };
    };
    debug_assert_eq!(outcome.of_sequence, record.sequence);
    match &outcome.result {
        Some(Result::Effects(effects)) => Application {
            commands: &effects.commands,
            unknown_keys: &effects.unknown_keys,
        },
        Some(Result::Rejected(_)) => Application::NOTHING,
        Some(Result::Unknown(unknown)) if !unknown.keys.is_empty() => Application {
            commands: &[],
            unknown_keys: &unknown.keys,
        },
        Some(Result::Unknown(_)) | None => own_keys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &'static str) -> v1::Command {
        v1::Command {
            arguments: text.split(' ').map(Bytes::from).collect(),
        }
    }

    fn mutation(is_final: bool) -> v1::Record {
        v1::Record {
            sequence: 7,
            body: Some(Body::Mutation(v1::Mutation {
                commands: vec![command("SET k v")],
                keys: vec![Bytes::from("k")],
                r#final: is_final,
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn check(
        record: &v1::Record,
        result: Option<Option<Result>>,
        commands: &[&str],
        keys: &[&str],
    ) {
        let outcome = result.map(|result| v1::Outcome {
            of_sequence: 7,
            result,
            ..Default::default()
        });
        let application = commands_to_apply(record, outcome.as_ref());
        let found: Vec<String> = application
            .commands
            .iter()
            .map(|command| {
                let words: Vec<_> = command
                    .arguments
                    .iter()
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect();
                words.join(" ")
            })
            .collect();
        assert_eq!(found, commands);
        assert_eq!(application.unknown_keys, keys);
    }

    #[test]
    fn every_outcome_of_every_form() {
        let effects = |unknown_keys: &[&'static str]| {
            Some(Result::Effects(v1::Effects {
                commands: vec![command("DEL k")],
                unknown_keys: unknown_keys.iter().map(|key| Bytes::from(*key)).collect(),
            }))
        };
        let unknown = |keys: &[&'static str]| {
            Some(Result::Unknown(v1::Unknown {
                reason: String::new(),
                keys: keys.iter().map(|key| Bytes::from(*key)).collect(),
            }))
        };
        let rejected = || Some(Result::Rejected(v1::Rejected::default()));
        check(&mutation(true), None, &["SET k v"], &[]);
        check(&mutation(false), None, &[], &["k"]);
        for is_final in [true, false] {
            let record = mutation(is_final);
            check(&record, Some(effects(&[])), &["DEL k"], &[]);
            check(&record, Some(effects(&["x"])), &["DEL k"], &["x"]);
            check(&record, Some(rejected()), &[], &[]);
            check(&record, Some(unknown(&["x", "y"])), &[], &["x", "y"]);
            check(&record, Some(unknown(&[])), &[], &["k"]);
            check(&record, Some(None), &[], &["k"]);
        }
        check(&v1::Record::default(), None, &[], &[]);
    }
}
