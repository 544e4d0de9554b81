#![doc = include_str!("ARCHITECTURE.md")]
#![deny(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod datastore;
pub mod journal;
pub mod kube;
pub mod mutation;
pub mod platform;
pub mod protocol;
pub mod proxy;
pub mod replication;
pub mod stack;
pub mod telemetry;
