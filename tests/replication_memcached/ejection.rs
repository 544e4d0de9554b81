//! Servers that leave their keys to others while they are away.

use std::time::Duration;

use wal_sidecar::replication::target::memcached::Memcached as Target;
use wal_sidecar::replication::target::{Target as _, TargetError};

use super::support::Memcached;
use super::target::{commands, done, file, get, keys, run, servers};

/// Looks are so far apart, at most so many are needed.
const PAUSE: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 500;

#[test]
fn keys_of_a_server_that_stays_away_go_to_another_until_it_is_back() {
    let mut nodes = [Memcached::start(), Memcached::start()];
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let mut options = servers(&[&nodes.each_ref().map(Memcached::port)]);
        options.eject_after = Some(Duration::from_millis(300));
        let mut target = Target::new(options, "test", 1, file(directory.path()));
        let names: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let sets: Vec<String> = names.iter().map(|key| format!("set {key} 0 0 x")).collect();
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let count = |server: &Memcached| {
            let has = |key: &&&str| get(server, key) == "VA 1 f0\r\nx\r\n";
            names.iter().filter(has).count()
        };
        // The other server dies, and comes back empty.
        let expected = [(false, 40), (true, 40)];
        assert_eq!(target.lead().await, Ok(true));
        assert_eq!(target.watch(&keys(&names)).await, Ok(()));
        assert_eq!(target.commit(&commands(&sets), &[]).await, done(&[]));
        let before = count(&nodes[0]);
        assert!((5..35).contains(&before), "{before}");
        for (is_back, all) in expected {
            match is_back {
                false => nodes[1].kill(),
                true => nodes[1].restart(),
            }
            let mut looks = 0;
            loop {
                let written = async {
                    if !target.lead().await? {
                        return Err(TargetError::Superseded);
                    }
                    target.watch(&keys(&names)).await?;
                    target.commit(&commands(&sets), &[]).await
                };
                let written = written.await;
                let found = match is_back {
                    false => count(&nodes[0]),
                    true => before + count(&nodes[1]),
                };
                if written.is_ok() && found == all {
                    break;
                }
                looks += 1;
                assert!(looks < LOOKS_MAX, "{written:?}, {found} keys");
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
}
