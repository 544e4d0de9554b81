//! The checks that concern several settings at once, and the typed result.

use super::file::{self, File};
use super::position::{Position, Problem, Problems};
use super::reader::{Context, Setting};
use super::{
    Admin, Backend, Config, ConnectionMode, Environment, Journal, Kafka, ListenAddress, Log,
    Namespace, OnJournalUnavailable, PrefixPolicy, Protocol, Role, Upstream, Upstreams, document,
    environment, kafka, replication, serve, upstream_tls, values,
};

/// Reads and checks a whole configuration. Either there is one, or there is
/// everything that is wrong, ordered by line, then by variable.
pub(super) fn config(text: &str, environment: &Environment) -> Result<Config, Vec<Problem>> {
    let mut root = document::parse(text).map_err(|problem| vec![problem])?;
    let mut context = Context {
        problems: Problems::default(),
        environment,
        secret_variables: Vec::new(),
    };
    let variables = environment::overlay(&mut root, environment, &mut context.problems);
    let file = file::read(&root, &mut context);
    for name in variables {
        // A secret may be in a variable that happens to have our prefix.
        if !context.secret_variables.contains(&name) {
            let message = environment::unknown_message(&root, &name);
            context
                .problems
                .error(&Position::Variable(name), "", message);
        }
    }
    let mut problems = context.problems;
    check_journal(&file.journal, &mut problems);
    check_kafka(&file, &mut problems);
    serve::check(&file.journal.serve, &file.journal.backend, &mut problems);
    check_namespaces(&file.namespaces, &mut problems);
    check_listeners(&file, &mut problems);
    check_addresses(&file, &mut problems);
    replication::check(&file, &mut problems);
    problems.errors.sort_by(|a, b| a.position.cmp(&b.position));
    problems
        .warnings
        .sort_by(|a, b| a.position.cmp(&b.position));
    match problems.errors.is_empty() {
        true => Ok(build(file, problems.warnings)),
        false => Err(problems.errors),
    }
}

fn check_journal(journal: &file::Journal, problems: &mut Problems) {
    let (segment, retention) = (&journal.segment_bytes, &journal.retention_bytes);
    if segment.usable && retention.usable && retention.value < segment.value {
        let message = format!(
            "expected at least journal.segment_bytes ({}), found {}",
            values::format_size(segment.value),
            values::format_size(retention.value),
        );
        problems.error(&retention.at, "journal.retention_bytes", message);
    }
    if let (Some(cap), true) = (journal.hard_cap_bytes.value, retention.usable)
        && cap < retention.value
    {
        let message = format!(
            "expected at least journal.retention_bytes ({}), found {}",
            values::format_size(retention.value),
            values::format_size(cap),
        );
        problems.error(
            &journal.hard_cap_bytes.at,
            "journal.hard_cap_bytes",
            message,
        );
    }
    if journal.backend.usable && journal.backend.value == Backend::Memory {
        let message = "the journal is lost when the process ends; for tests only";
        problems.warning(&journal.backend.at, "journal.backend", message);
    }
}

/// What concerns Kafka: it is somewhere, each namespace has a topic of its own,
/// and a spool has something to spool for.
fn check_kafka(file: &File, problems: &mut Problems) {
    let journal = &file.journal;
    let (backend, kafka) = (&journal.backend, &journal.kafka);
    let uses_kafka = matches!(backend.value, Backend::Kafka | Backend::Spool);
    match &journal.brokers {
        None if uses_kafka && backend.usable => {
            let message = "missing; for example brokers = \"kafka:9092\"";
            problems.error(&journal.at, "journal.brokers", message);
        }
        Some(brokers) if !uses_kafka && backend.usable => {
            if let Some(first) = brokers.first() {
                let message = format!("has no effect with backend = {:?}", backend.value.as_str());
                problems.warning(&first.at, "journal.brokers", message);
            }
        }
        _ => {}
    }
    let is_shared = kafka.topic.usable && !kafka.topic.value.contains("{namespace}");
    if uses_kafka && is_shared && 1 < file.namespaces.len() {
        let message = "expected {namespace} in it: each namespace needs a topic of its own";
        problems.error(&kafka.topic.at, "journal.kafka.topic", message);
    }
    for (index, namespace) in file.namespaces.iter().enumerate() {
        let path = format!("namespace[{index}]");
        check_spool(namespace, &path, backend, problems);
        let (timeout, request) = (&kafka.timeout, &namespace.request_timeout);
        if backend.value == Backend::Kafka && request.value <= timeout.value && request.usable {
            let message = format!(
                "is not longer than journal.kafka.timeout ({}): clients are told UNCERTAIN where \
                 they could be told what became of a write",
                values::format_duration(timeout.value)
            );
            problems.warning(&request.at, format!("{path}.request_timeout"), message);
        }
    }
}

fn check_spool(
    namespace: &file::Namespace,
    path: &str,
    backend: &Setting<Backend>,
    problems: &mut Problems,
) {
    let own = &namespace.on_journal_unavailable;
    let spools = own.value == OnJournalUnavailable::Spool;
    if spools && own.usable && backend.usable && backend.value != Backend::Kafka {
        let message = format!(
            "\"spool\" keeps writes for Kafka; the journal's backend is {:?}",
            backend.value.as_str()
        );
        problems.error(&own.at, format!("{path}.on_journal_unavailable"), message);
    }
    for (number, prefix) in namespace.prefixes.iter().enumerate() {
        let setting = &prefix.on_journal_unavailable;
        if setting.value == Some(OnJournalUnavailable::Spool) && !spools && setting.usable {
            let path = format!("{path}.prefix[{number}].on_journal_unavailable");
            let message = "expected \"spool\" in the namespace too: all its keys are in one spool";
            problems.error(&setting.at, path, message);
        }
    }
}

fn check_namespaces(namespaces: &[file::Namespace], problems: &mut Problems) {
    for (index, namespace) in namespaces.iter().enumerate() {
        let path = |key: &str| format!("namespace[{index}].{key}");
        let earlier = &namespaces[..index];
        if let Some(first) = repeated(&namespace.name, earlier.iter().map(|other| &other.name)) {
            let message = format!("{:?} is the name of {first} too", namespace.name.value);
            problems.error(&namespace.name.at, path("name"), message);
        }
        check_upstreams(namespace, &path, problems);
        check_identity(namespace, &path, problems);
        let zones = namespace.replicas.iter().flat_map(|zone| &zone.upstream);
        let upstreams = namespace.upstream.iter().chain(zones);
        let upstreams = upstreams.map(|one| &one.value);
        upstream_tls::check(&namespace.upstream_tls, upstreams, &path, problems);
        for (number, prefix) in namespace.prefixes.iter().enumerate() {
            let path = path(&format!("prefix[{number}]"));
            let earlier = &namespace.prefixes[..number];
            if repeated(&prefix.prefix, earlier.iter().map(|other| &other.prefix)).is_some() {
                let message = format!("{:?} is given twice", prefix.prefix.value);
                problems.error(&prefix.prefix.at, format!("{path}.prefix"), message);
            }
            let (durability, unavailable) = (&prefix.durability, &prefix.on_journal_unavailable);
            let given = durability.given
                || unavailable.given
                || prefix.replicate.given
                || prefix.replicate_ttl_min.given;
            if !given {
                let message = "sets nothing; expected durability, on_journal_unavailable, \
                               replicate or replicate_ttl_min";
                problems.error(&prefix.prefix.at, path, message);
            }
        }
    }
}

/// The namespace (as `namespace[0]`) that has the same text earlier on.
fn repeated<'a>(
    setting: &Setting<String>,
    earlier: impl Iterator<Item = &'a Setting<String>>,
) -> Option<String> {
    let mut numbered = earlier.enumerate();
    let same = |other: &Setting<String>| other.usable && other.value == setting.value;
    let (index, _) = numbered.find(|(_, other)| setting.usable && same(other))?;
    Some(format!("namespace[{index}]"))
}

fn check_upstreams(
    namespace: &file::Namespace,
    path: &impl Fn(&str) -> String,
    problems: &mut Problems,
) {
    let protocol = namespace.protocol.value;
    let zones = namespace.replicas.iter().enumerate().map(|(index, zone)| {
        let path = path(&format!("replica[{index}].upstream"));
        (path, &zone.upstream)
    });
    let own = (path("upstream"), &namespace.upstream);
    for (path, upstreams) in std::iter::once(own).chain(zones) {
        for (index, upstream) in upstreams.iter().enumerate() {
            if upstream.value.protocol != protocol && namespace.protocol.usable {
                let message = format!(
                    "{} is not of the namespace's protocol, {:?}",
                    upstream.value,
                    protocol.as_str()
                );
                problems.error(&upstream.at, path.clone(), message);
            }
            let same = |other: &Setting<Upstream>| {
                other.value.address == upstream.value.address
                    || other.value.name.is_some() && other.value.name == upstream.value.name
            };
            if upstreams[..index].iter().any(same) {
                let message = format!("{} is given twice", upstream.value);
                problems.error(&upstream.at, path.clone(), message);
            }
        }
    }
    if protocol != Protocol::Redis {
        let connection = &namespace.connection;
        if connection.given && connection.value == ConnectionMode::Dedicated {
            let message =
                "changes nothing: connections to memcached carry no state, and are shared";
            problems.warning(&connection.at, path("connection"), message);
        }
        return;
    }
    if let Some(second) = namespace.upstream.get(1) {
        let message = "a Redis namespace has one datastore; give each its own namespace";
        problems.error(&second.at, path("upstream"), message);
    }
    if let Some(upstream) = namespace
        .replicas
        .iter()
        .flat_map(|zone| &zone.upstream)
        .next()
    {
        let message = "zones are for memcached";
        problems.error(&upstream.at, path("replica"), message);
    }
}

fn check_identity(
    namespace: &file::Namespace,
    path: &impl Fn(&str) -> String,
    problems: &mut Problems,
) {
    let (user, password) = (&namespace.upstream_user, &namespace.upstream_password);
    for upstream in &namespace.upstream {
        let in_url = &upstream.value;
        for (key, in_url, own) in [
            ("upstream_user", &in_url.user, user),
            ("upstream_password", &in_url.password, password),
        ] {
            if in_url.is_some() && own.value.is_some() {
                let message = "is in the URL of upstream too; give it once";
                problems.error(&own.at, path(key), message);
            }
        }
        let has_user = in_url.user.is_some() || user.value.is_some();
        let has_password = in_url.password.is_some() || password.value.is_some();
        if has_user && !has_password && password.usable {
            let message = "a user is given without a password (upstream_password)";
            problems.error(&upstream.at, path("upstream"), message);
        }
    }
}

/// Clients of a proxy have to connect somewhere.
fn check_listeners(file: &File, problems: &mut Problems) {
    let is_proxy = |role: &Setting<Role>| role.value == Role::Proxy;
    // Where no role is right, that is what is wrong.
    if !file.roles.iter().any(is_proxy) {
        return;
    }
    for (index, namespace) in file.namespaces.iter().enumerate() {
        if namespace.listen.is_none() {
            let message = "missing; for example listen = \"127.0.0.1:6380\"";
            let path = format!("namespace[{index}].listen");
            problems.error(&namespace.at, path, message);
        }
    }
}

/// Everything that is listened on, against each other and the datastores.
fn check_addresses(file: &File, problems: &mut Problems) {
    let mut taken: Vec<(String, &Setting<ListenAddress>)> = Vec::new();
    for (index, namespace) in file.namespaces.iter().enumerate() {
        for listen in namespace.listen.iter().flatten() {
            let path = format!("namespace[{index}].listen");
            let address = &listen.value;
            if let Some((other, _)) = taken
                .iter()
                .find(|(_, other)| address.clashes(&other.value))
            {
                let message = format!("{address} is taken by {other}");
                problems.error(&listen.at, path.clone(), message);
            }
            let zones = namespace.replicas.iter().flat_map(|zone| &zone.upstream);
            let mut upstreams = namespace.upstream.iter().chain(zones);
            if upstreams.any(|upstream| address.is_reached_by(&upstream.value.address)) {
                let message = format!("{address} is the namespace's own upstream");
                problems.error(&listen.at, path.clone(), message);
            }
            if !address.is_local() {
                let message = format!("{address} can be reached from other machines");
                problems.warning(&listen.at, path.clone(), message);
            }
            taken.push((path, listen));
        }
    }
    let serve = &file.journal.serve.listen;
    let served = serve.value.map(ListenAddress::Tcp);
    if let Some(address) = &served
        && let Some((other, _)) = taken
            .iter()
            .find(|(_, other)| address.clashes(&other.value))
    {
        let message = format!("{address} is taken by {other}");
        problems.error(&serve.at, "journal.serve", message);
    }
    let admin = ListenAddress::Tcp(file.admin_listen.value);
    if !file.admin_listen.usable {
        return;
    }
    if served.is_some_and(|served| served.clashes(&admin)) {
        let (at, path, other) = match file.admin_listen.given {
            true => (&file.admin_listen.at, "admin.listen", "journal.serve"),
            false => (&serve.at, "journal.serve", "admin.listen's default"),
        };
        problems.error(at, path, format!("{admin} is taken by {other}"));
    }
    let clash = taken
        .iter()
        .find(|(_, listen)| admin.clashes(&listen.value));
    match clash {
        Some((other, _)) if file.admin_listen.given => {
            let message = format!("{admin} is taken by {other}");
            problems.error(&file.admin_listen.at, "admin.listen", message);
        }
        Some((path, listen)) => {
            let message = format!("{} is taken by admin.listen's default", listen.value);
            problems.error(&listen.at, path, message);
        }
        None => {}
    }
    if !admin.is_local() {
        let message = format!(
            "{admin} can be reached from other machines, and whoever reaches it can drain this one"
        );
        problems.warning(&file.admin_listen.at, "admin.listen", message);
    }
}

fn build(file: File, warnings: Vec<Problem>) -> Config {
    let replication = replication::build(file.replication, &file.journal.kafka.topic.value);
    let mut roles = Vec::new();
    for role in file.roles {
        if !roles.contains(&role.value) {
            roles.push(role.value);
        }
    }
    Config {
        region: file.region.value,
        roles,
        workers: count(file.workers),
        drain_timeout: file.drain_timeout.value,
        journal: Journal {
            backend: file.journal.backend.value,
            directory: file.journal.directory.value,
            segment_bytes: file.journal.segment_bytes.value,
            retention_bytes: file.journal.retention_bytes.value,
            retention_age: file.journal.retention_age.value,
            hard_cap_bytes: file.journal.hard_cap_bytes.value,
            heartbeat_interval: file.journal.heartbeat_interval.value,
            serve: serve::build(file.journal.serve),
            brokers: file
                .journal
                .brokers
                .unwrap_or_default()
                .into_iter()
                .flat_map(|setting| split_brokers(&setting.value))
                .collect(),
            kafka: build_kafka(file.journal.kafka),
        },
        namespaces: file.namespaces.into_iter().map(build_namespace).collect(),
        replication,
        admin: Admin {
            listen: file.admin_listen.value,
        },
        log: Log {
            format: file.log_format.value,
            level: file.log_level.value,
        },
        warnings,
    }
}

fn split_brokers(text: &str) -> Vec<String> {
    text.split(',').map(|one| one.trim().to_owned()).collect()
}

fn build_kafka(file: kafka::File) -> Kafka {
    let small =
        |setting: Setting<u64>| u32::try_from(setting.value).expect("the limits fit 32 bits");
    Kafka {
        topic: file.topic.value,
        create_topics: file.create_topics.value,
        partitions: small(file.partitions),
        replication_factor: small(file.replication_factor),
        timeout: file.timeout.value,
        spool_after: file.spool_after.value,
        properties: file.properties,
    }
}

fn build_namespace(file: file::Namespace) -> Namespace {
    let identified = |upstreams: Vec<Setting<Upstream>>| {
        let upstreams = upstreams.into_iter().map(|upstream| Upstream {
            user: upstream.value.user.or(file.upstream_user.value.clone()),
            password: upstream
                .value
                .password
                .or(file.upstream_password.value.clone()),
            ..upstream.value
        });
        Upstreams(upstreams.collect())
    };
    let (durability, unavailable) = (file.durability.value, file.on_journal_unavailable.value);
    let (replicate, ttl_min) = (file.replicate.value, file.replicate_ttl_min.value);
    let prefixes = file.prefixes.into_iter().map(|prefix| PrefixPolicy {
        prefix: prefix.prefix.value,
        durability: prefix.durability.value.unwrap_or(durability),
        on_journal_unavailable: prefix.on_journal_unavailable.value.unwrap_or(unavailable),
        replicate: prefix.replicate.value.unwrap_or(replicate),
        replicate_ttl_min: prefix.replicate_ttl_min.value.unwrap_or(ttl_min),
    });
    let mut prefixes: Vec<PrefixPolicy> = prefixes.collect();
    prefixes.sort_by(|a, b| {
        let longest_first = b.prefix.len().cmp(&a.prefix.len());
        longest_first.then_with(|| a.prefix.cmp(&b.prefix))
    });
    Namespace {
        name: file.name.value,
        protocol: file.protocol.value,
        listen: file
            .listen
            .into_iter()
            .flatten()
            .map(|listen| listen.value)
            .collect(),
        upstream: identified(file.upstream),
        replicas: file
            .replicas
            .into_iter()
            .map(|zone| identified(zone.upstream))
            .collect(),
        upstream_tls: upstream_tls::build(file.upstream_tls),
        placement: file.placement.value,
        eject_after: file.eject_after.value,
        connection: file.connection.value,
        durability,
        on_journal_unavailable: unavailable,
        request_timeout: file.request_timeout.value,
        connect_timeout: file.connect_timeout.value,
        client_limit: count(file.client_limit),
        in_flight_bytes_max: file.in_flight_bytes_max.value,
        in_flight_batches_max: count(file.in_flight_batches_max),
        value_bytes_max: file.value_bytes_max.value,
        client_output_bytes_max: file.client_output_bytes_max.value,
        replicate,
        replicate_ttl_min: ttl_min,
        prefixes,
    }
}

/// A number whose limits were checked when it was read.
fn count(setting: Setting<u64>) -> usize {
    usize::try_from(setting.value).expect("the limits fit 32 bits")
}
