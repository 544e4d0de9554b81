//! The checks of `[replication]` that concern several keys at once.

use super::super::address::{ListenAddress, UpstreamAddress};
use super::super::file::File;
use super::super::position::Problems;
use super::super::{Backend, Role};
use super::source::{self, Place};

/// What concerns several keys of the sources, or the rest of the file.
pub fn check(file: &File, problems: &mut Problems) {
    let (backend, sources) = (&file.journal.backend, &file.replication.sources);
    let replicator = file
        .roles
        .iter()
        .find(|role| role.value == Role::Replicator);
    if let Some(role) = replicator
        && backend.usable
        && backend.value == Backend::Memory
    {
        let message = "a replicator needs a journal that outlives the process; expected \
                       backend = \"local\", \"kafka\" or \"spool\"";
        let at = if backend.given { &backend.at } else { &role.at };
        problems.error(at, "journal.backend", message);
    }
    let any_role = file.roles.iter().any(|role| role.given);
    if let Some(source) = sources.first()
        && !any_role
    {
        let message = "has no effect without roles = [\"proxy\", \"replicator\"], or \
                       [\"replicator\"]";
        problems.warning(&source.region.at, source.path.clone(), message);
    }
    for (index, source) in sources.iter().enumerate() {
        check_keys(source, problems);
        check_whose(source, file, problems);
        let same = |other: &source::File| {
            let is_kafka = matches!(other.journal.value, Some(Place::Kafka(_)));
            let topics = !is_kafka || topic_of(other, file) == topic_of(source, file);
            other.journal.usable && other.journal.value == source.journal.value && topics
        };
        if let Some(place) = &source.journal.value
            && sources[..index].iter().any(same)
        {
            let message = format!("{place} is given twice");
            problems.error(
                &source.journal.at,
                format!("{}.journal", source.path),
                message,
            );
        }
    }
}

/// The topic of a source, as far as the region goes.
fn topic_of(source: &source::File, file: &File) -> String {
    let template = &file.journal.kafka.topic.value;
    let topic = source.topic.value.as_ref().unwrap_or(template);
    topic.replace("{region}", &source.region.value)
}

/// Keys that do not go with the URL, or that it needs.
fn check_keys(source: &source::File, problems: &mut Problems) {
    let Some(place) = &source.journal.value else {
        return;
    };
    let path = |key: &str| format!("{}.{key}", source.path);
    let (is_kafka, is_encrypted) = match place {
        Place::Kafka(_) => (true, false),
        Place::Served { encrypted, .. } => (false, *encrypted),
    };
    let mut misplaced = |key: &str, given: bool, at, schemes: &str| {
        if given {
            let message = format!("is for {schemes}, not for {place}");
            problems.error(at, path(key), message);
        }
    };
    let served = "wal:// and wals://";
    misplaced(
        "token",
        is_kafka && source.token.given,
        &source.token.at,
        served,
    );
    let authority = &source.certificate_authority;
    let name = &source.server_name;
    misplaced(
        "certificate_authority",
        !is_encrypted && authority.given,
        &authority.at,
        "wals://",
    );
    misplaced(
        "server_name",
        !is_encrypted && name.given,
        &name.at,
        "wals://",
    );
    misplaced(
        "topic",
        !is_kafka && source.topic.given,
        &source.topic.at,
        "kafka://",
    );
    let properties = &source.properties;
    misplaced(
        "properties",
        !is_kafka && properties.given,
        &properties.at,
        "kafka://",
    );
    if is_encrypted && !authority.given {
        let message = "missing: wals:// trusts no authority but the one that is given";
        problems.error(&source.journal.at, path("certificate_authority"), message);
    }
    if let Place::Served {
        host,
        encrypted: false,
        ..
    } = place
        && source.token.given
        && !is_this_machine(host)
    {
        let message = "goes over the network unencrypted; expected a journal at wals://";
        problems.warning(&source.token.at, path("token"), message);
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The own journal is read anyway: as a source it would be applied twice.
fn check_whose(source: &source::File, file: &File, problems: &mut Problems) {
    let path = format!("{}.journal", source.path);
    match &source.journal.value {
        Some(Place::Kafka(brokers)) => {
            let own = file.journal.brokers.as_deref().unwrap_or_default();
            let mut own = own.iter().flat_map(|one| one.value.split(','));
            let uses_kafka = matches!(file.journal.backend.value, Backend::Kafka | Backend::Spool);
            let shared = own.any(|one| brokers.iter().any(|broker| broker == one.trim()));
            let own_topic = file
                .journal
                .kafka
                .topic
                .value
                .replace("{region}", &file.region.value);
            if uses_kafka && shared && topic_of(source, file) == own_topic {
                let message = "is this process's own journal, which is read anyway";
                problems.error(&source.journal.at, path, message);
            }
        }
        Some(Place::Served { host, port, .. }) => {
            let (host, port) = (host.clone(), *port);
            let place = UpstreamAddress::Tcp { host, port };
            let own = file.journal.serve.listen.value.map(ListenAddress::Tcp);
            if own.is_some_and(|own| own.is_reached_by(&place)) {
                let message = "is this process's own journal, which is read anyway";
                problems.error(&source.journal.at, path, message);
            }
        }
        None => {}
    }
}
