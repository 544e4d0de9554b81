//! `[[replication.source]]`: one journal that is applied here.

use super::super::address;
use super::*;

const EXPECTED: &str =
    "expected \"kafka://host:port[,host:port]\", \"wal://host:port\" or \"wals://host:port\"";

/// A journal of a region, this one or another.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The region that wrote it.
    pub region: String,
    /// Where it is.
    pub journal: SourceJournal,
}

/// Where a journal is, and what it takes to read it.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceJournal {
    /// In topics, one for each namespace.
    Kafka {
        /// `host:port`; not empty.
        brokers: Vec<String>,
        /// The name of a namespace's topic, with `{region}` and `{namespace}`.
        topic: String,
        /// Properties of librdkafka, in the order of the file.
        properties: Vec<Property>,
    },
    /// With another sidecar, which serves its local journal.
    Served(Served),
}

/// A sidecar that serves its journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// `host:port`.
    pub address: String,
    /// What it wants to be shown.
    pub token: Option<Secret>,
    /// Whom to trust; None: the connection is not encrypted.
    pub tls: Option<SourceTls>,
}

/// Whom to trust to be the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTls {
    /// The file of the authority's certificate, in PEM format.
    pub certificate_authority: PathBuf,
    /// The name that the server's certificate is made out to.
    pub server_name: String,
}

impl Source {
    /// The topic of one namespace's journal, where it is in Kafka.
    pub fn topic(&self, namespace: &str) -> Option<String> {
        match &self.journal {
            SourceJournal::Kafka { topic, .. } => Some(
                topic
                    .replace("{region}", &self.region)
                    .replace("{namespace}", namespace),
            ),
            SourceJournal::Served(_) => None,
        }
    }
}

/// As the URL it is written as.
impl fmt::Display for SourceJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceJournal::Kafka { brokers, .. } => write!(f, "kafka://{}", brokers.join(",")),
            SourceJournal::Served(served) => match served.tls {
                Some(_) => write!(f, "wals://{}", served.address),
                None => write!(f, "wal://{}", served.address),
            },
        }
    }
}

/// As the keys of the file.
impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("region", &self.region)?;
        map.serialize_entry("journal", &self.journal.to_string())?;
        match &self.journal {
            SourceJournal::Kafka {
                topic, properties, ..
            } => {
                map.serialize_entry("topic", topic)?;
                if !properties.is_empty() {
                    map.serialize_entry("properties", &kafka::Properties(properties))?;
                }
            }
            SourceJournal::Served(served) => {
                if let Some(token) = &served.token {
                    map.serialize_entry("token", token)?;
                }
                if let Some(tls) = &served.tls {
                    map.serialize_entry("certificate_authority", &tls.certificate_authority)?;
                    map.serialize_entry("server_name", &tls.server_name)?;
                }
            }
        }
        map.end()
    }
}

/// Where a journal is, as its URL says.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    Kafka(Vec<String>),
    Served {
        host: String,
        port: u16,
        encrypted: bool,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Kafka(brokers) => write!(f, "kafka://{}", brokers.join(",")),
            Place::Served {
                encrypted: true, ..
            } => write!(f, "wals://{}", self.address()),
            Place::Served { .. } => write!(f, "wal://{}", self.address()),
        }
    }
}

impl Place {
    /// `host:port`, an IPv6 address in brackets.
    fn address(&self) -> String {
        match self {
            Place::Kafka(brokers) => brokers.join(","),
            Place::Served { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Served { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

/// One `[[replication.source]]` as it was read.
pub struct File {
    pub path: String,
    pub region: Setting<String>,
    pub journal: Setting<Option<Place>>,
    pub token: Setting<Option<Secret>>,
    pub certificate_authority: Setting<Option<PathBuf>>,
    pub server_name: Setting<Option<String>>,
    pub topic: Setting<Option<String>>,
    /// Where they are given, if they are.
    pub properties: Setting<Vec<Property>>,
}

pub fn read(table: &Table, path: String, context: &mut Context) -> File {
    let token = file::secret(table, "token", &path, context);
    let mut reader = Reader::new(table, path.clone(), &SOURCE, context);
    let properties = reader.section("properties");
    let has_properties = reader.has("properties");
    let file = File {
        region: reader.required("region", String::new(), "\"eu-west-1\"", file::name),
        journal: reader.required("journal", None, "\"wal://host:9901\"", |node| {
            place(node).map(Some)
        }),
        token,
        certificate_authority: reader.setting("certificate_authority", None, |node| {
            file::path(node).map(Some)
        }),
        server_name: reader.setting("server_name", None, |node| match text(node)?.as_str() {
            "" => Err("expected a host name or an address, found an empty text".to_owned()),
            name => Ok(Some(name.to_owned())),
        }),
        topic: reader.setting("topic", None, |node| kafka::topic(node).map(Some)),
        properties: Setting {
            value: Vec::new(),
            at: properties.at.clone(),
            usable: true,
            given: has_properties,
        },
        path: path.clone(),
    };
    let path = format!("{path}.properties");
    let brokers = "the brokers in the URL of journal";
    let value = kafka::read_properties(&properties, &path, brokers, context);
    File {
        properties: Setting {
            value,
            ..file.properties
        },
        ..file
    }
}

/// Reads the URL of a journal.
fn place(node: &Node) -> Result<Place, String> {
    let Value::String(text) = &node.value else {
        return Err(format!("{EXPECTED}, found {}", node.describe()));
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{EXPECTED}, found {text:?}"));
    };
    if rest.contains('@') {
        // It may be a secret, and is not repeated.
        return Err(format!(
            "{EXPECTED}; secrets are given as token or properties"
        ));
    }
    let host_and_port = |one: &str| {
        let found = address::host_and_port(one.trim(), 0).filter(|(_, port)| *port > 0);
        found.ok_or_else(|| format!("expected host:port, found {one:?}"))
    };
    match scheme {
        "kafka" => {
            let rest = rest.trim_end_matches('/');
            let brokers = rest.split(',').map(|one| {
                host_and_port(one)?;
                Ok(one.trim().to_owned())
            });
            Ok(Place::Kafka(brokers.collect::<Result<_, String>>()?))
        }
        "wal" | "wals" => {
            let (host, port) = host_and_port(rest.trim_end_matches('/'))?;
            let encrypted = scheme == "wals";
            Ok(Place::Served {
                host,
                port,
                encrypted,
            })
        }
        _ => Err(format!("{EXPECTED}, found the scheme {scheme:?}")),
    }
}

/// The typed result of what was checked. `template` is the own topics' names.
pub fn build(file: File, template: &str) -> Option<Source> {
    let place = file.journal.value?;
    let address = place.address();
    let journal = match place {
        Place::Kafka(brokers) => SourceJournal::Kafka {
            brokers,
            topic: file.topic.value.unwrap_or_else(|| template.to_owned()),
            properties: file.properties.value,
        },
        Place::Served {
            host, encrypted, ..
        } => {
            let authority = file.certificate_authority.value.filter(|_| encrypted);
            SourceJournal::Served(Served {
                address,
                token: file.token.value,
                tls: authority.map(|certificate_authority| SourceTls {
                    certificate_authority,
                    server_name: file.server_name.value.unwrap_or(host),
                }),
            })
        }
    };
    Some(Source {
        region: file.region.value,
        journal,
    })
}
