//! How the other region's datastore is reached.

use std::path::Path;

use super::super::{BadUsage, directory, load};
use super::Options;
use crate::config::{Namespace, Secret, Upstream, Upstreams};

/// The own namespace with the other datastore, or the one of the other region's
/// configuration.
pub(super) fn namespace(options: &Options, own: &Namespace) -> Result<Namespace, BadUsage> {
    let mut other = own.clone();
    other.replicas = Vec::new();
    match &options.with[..] {
        [file] if !file.contains("://") => {
            let found = of_file(file, own)?;
            other.upstream = found.upstream;
            other.upstream_tls = found.upstream_tls;
        }
        urls => {
            let upstreams = urls.iter().map(|url| of_url(url));
            other.upstream = Upstreams(upstreams.collect::<Result<Vec<Upstream>, BadUsage>>()?);
            // Whom to trust, and what to show, is as here.
            other.upstream_tls.server_name = None;
        }
    }
    if other
        .upstream
        .0
        .iter()
        .any(|one| one.protocol != own.protocol)
    {
        return Err(BadUsage(format!(
            "--with: namespace {} is of {}, the other datastore is not",
            own.name, own.protocol
        )));
    }
    let password = password(options)?;
    for upstream in &mut other.upstream.0 {
        if let Some(user) = &options.user {
            upstream.user = Some(Secret::new(user.clone()));
        }
        if let Some(password) = &password {
            upstream.password = Some(Secret::new(password.clone()));
        }
    }
    match (
        own.upstream == other.upstream,
        own.upstream.0.len(),
        other.upstream.0.len(),
    ) {
        (true, _, _) => Err(BadUsage(format!(
            "--with: {} is this region's own datastore",
            own.upstream
        ))),
        (false, _, 2..) if own.protocol == crate::config::Protocol::Redis => Err(BadUsage(
            "--with: a namespace of Redis has one datastore".to_owned(),
        )),
        _ => Ok(other),
    }
}

fn of_url(url: &str) -> Result<Upstream, BadUsage> {
    let upstream = Upstream::parse(url).map_err(|error| BadUsage(format!("--with: {error}")))?;
    match upstream.password.is_some() {
        true => Err(BadUsage(
            "--with: other processes can see a password on the command line; use \
             --password-file or --password-env"
                .to_owned(),
        )),
        false => Ok(upstream),
    }
}

fn of_file(file: &str, own: &Namespace) -> Result<Namespace, BadUsage> {
    let file = Path::new(file);
    let config = load(file)?;
    let namespace = directory::find(&config, Some(&own.name), file)?;
    Ok(namespace.clone())
}

fn password(options: &Options) -> Result<Option<String>, BadUsage> {
    let found = match (&options.password_file, &options.password_env) {
        (Some(file), _) => std::fs::read_to_string(file)
            .map_err(|error| format!("--password-file: read {}: {error}", file.display())),
        (None, Some(variable)) => std::env::var(variable)
            .map_err(|_| format!("--password-env: the variable {variable} is not set")),
        (None, None) => return Ok(None),
    };
    let found = found.map_err(BadUsage)?;
    Ok(Some(found.trim_end_matches(['\r', '\n']).to_owned()))
}
