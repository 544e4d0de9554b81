//! Who may read, and who is believed to be the server.

use super::*;
use support::certificates::Certificates;
use wal_sidecar::journal::{KafkaJournal, KafkaOptions, ServeError, Token};
use wal_sidecar::platform::tls::{ClientTls, ServerTls, TlsError};

fn refused(reason: &str) -> RemoteError {
    RemoteError::Refused {
        reason: reason.to_owned(),
    }
}

#[test]
fn only_the_token_opens_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &numbered(0..1));
        let mut serving = loopback();
        serving.token = Some(Token::new("hush"));
        let server = serve_with(serving, &journal);
        for (token, expected) in [
            (None, "a token is needed"),
            (Some("husk"), "the token is wrong"),
        ] {
            let mut reading = options(server.address());
            reading.token = token.map(Token::new);
            let mut reader = RemoteReader::connect(reading, 0);
            assert_eq!(error_of(&mut reader).await, refused(expected));
            // It tries again, and says so again.
            assert_eq!(error_of(&mut reader).await, refused(expected));
            let answer = within("an answer", reader.durable_next()).await;
            assert_eq!(answer, Err(refused(expected)));
        }
        let mut reading = options(server.address());
        reading.token = Some(Token::new("hush"));
        let mut reader = RemoteReader::connect(reading, 0);
        assert_eq!(read(&mut reader, 1).await, local(&journal, 0));
    });
}

#[test]
fn a_namespace_that_is_not_there_is_told() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let server = serve(&open(directory.path()));
        let mut reading = options(server.address());
        reading.namespace = "other".to_owned();
        let mut reader = RemoteReader::connect(reading, 0);
        let expected = refused("there is no namespace \"other\" here");
        assert_eq!(error_of(&mut reader).await, expected);
    });
}

/// The reason that a reader with these options is told.
async fn unreachable(options: RemoteOptions) -> String {
    let mut reader = RemoteReader::connect(options, 0);
    match error_of(&mut reader).await {
        RemoteError::Unreachable { reason, .. } => reason,
        error => panic!("{error}"),
    }
}

#[test]
fn the_server_has_to_show_a_certificate_of_the_authority_and_of_its_name() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (ours, others) = (Certificates::new(), Certificates::new());
        let journal = open(directory.path());
        append(&journal, &numbered(0..3));
        let mut serving = loopback();
        serving.tls = Some(ServerTls::from_files(&ours.certificate(), &ours.key()).unwrap());
        let encrypted = serve_with(serving, &journal);
        let plain = serve(&journal);
        let with = |authority: &Certificates, name: &str| {
            Some(ClientTls::from_file(&authority.authority(), name).unwrap())
        };
        for name in ["localhost", "127.0.0.1"] {
            let mut reading = options(encrypted.address());
            reading.tls = with(&ours, name);
            let mut reader = RemoteReader::connect(reading, 0);
            assert_eq!(read(&mut reader, 3).await, local(&journal, 0));
            assert_eq!(within("an answer", reader.durable_next()).await, Ok(3));
        }
        for (address, tls, expected) in [
            (
                encrypted.address(),
                with(&others, "localhost"),
                "invalid peer certificate",
            ),
            (encrypted.address(), with(&ours, "elsewhere"), "elsewhere"),
            (encrypted.address(), None, "TLS"),
            (plain.address(), with(&ours, "localhost"), "TLS"),
        ] {
            let mut reading = options(address);
            reading.tls = tls;
            let reason = unreachable(reading).await;
            assert!(reason.contains(expected), "{reason}");
        }
    });
}

#[test]
fn files_without_certificates_are_told() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.certificate(), certificates.key());
    let missing = Path::new("/nowhere/authority.pem");
    for (error, expected) in [
        (
            ClientTls::from_file(missing, "localhost").unwrap_err(),
            "read certificates from /nowhere/authority.pem: No such file",
        ),
        (
            ClientTls::from_file(&key, "localhost").unwrap_err(),
            "there is none in it",
        ),
        (
            ServerTls::from_files(&certificate, &certificate).unwrap_err(),
            "read a key from",
        ),
        (
            ServerTls::from_files(&certificate, &Certificates::new().key()).unwrap_err(),
            "use a certificate and its key from",
        ),
        (
            ClientTls::from_file(&certificates.authority(), "a b").unwrap_err(),
            "\"a b\" is neither a host name nor an address",
        ),
    ] as [(TlsError, &str); 5]
    {
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn what_is_in_kafka_is_not_served() {
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic("topic", 1, 1).unwrap();
    let kafka = KafkaJournal::open(KafkaOptions::new(cluster.bootstrap_servers(), "topic"));
    let journal = Journal::Kafka(Arc::new(kafka.unwrap()));
    run(async {
        let journals = vec![(NAMESPACE.to_owned(), journal)];
        let error = RemoteServer::start(loopback(), journals).unwrap_err();
        assert!(matches!(error, ServeError::Kafka { .. }));
        assert!(
            error.to_string().contains("replicators read its topic"),
            "{error}"
        );
    });
}

#[test]
fn an_address_that_is_taken_is_told() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let journals = vec![(NAMESPACE.to_owned(), journal)];
        let error = RemoteServer::start(ServeOptions::new(server.address()), journals);
        let text = error.unwrap_err().to_string();
        assert!(text.contains(&server.address().to_string()), "{text}");
    });
}

#[test]
fn a_server_that_is_not_there_is_told_with_the_reason() {
    run(async {
        for (address, expected) in [
            (
                SocketAddr::from((Ipv4Addr::LOCALHOST, support::process::free_port())).to_string(),
                "connect: ",
            ),
            ("nowhere".to_owned(), "\"nowhere\" is not host:port"),
        ] {
            let mut reading = options(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
            reading.address = address;
            let reason = unreachable(reading).await;
            assert!(reason.contains(expected), "{reason}");
        }
    });
}
