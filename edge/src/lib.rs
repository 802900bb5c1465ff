//! The edge: one port for redirects, REST, gRPC-Web, Connect and gRPC, before everything that Linkmesh is.
//!
//! What must stay true: a click is in the spool before its redirect is sent; no address leaves the process; no client
//! reaches a method that is not public, or says who it is in any way but by a key or a token; and once this edge has seen a change of a
//! link or a key, it never serves what was before.

mod access;
mod address;
mod body;
mod caching;
mod changes;
mod click;
mod client_stream;
mod compression;
mod conditional;
mod config;
mod contract;
mod cors;
mod dispatch;
mod documents;
mod fault;
mod gateway;
mod grants;
mod health;
mod idempotency;
mod keys;
mod limits;
mod listener;
mod observed;
mod patience;
mod places;
pub mod protocols;
mod proved;
mod received;
mod redirect;
mod reply;
mod rest;
mod rest_stream;
mod routes;
mod security;
mod statuses;
mod stream;
mod target;
mod tls;
mod tokens;
mod upstream;
mod visitors;
mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::spool::Shipper;
use bus::spool::Spool;
use bus::spool::SpoolOptions;
use jiff::Timestamp;
use service::Assembly;
use service::Condition;
use service::ConfigError;
use service::HttpMetrics;
use service::Task;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::address::TrustedProxies;
use crate::contract::Contracts;
use crate::cors::Cors;
use crate::dispatch::Edge;
use crate::gateway::Gateway;
use crate::grants::Grants;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::places::Places;
use crate::redirect::RedirectMetrics;
use crate::redirect::Redirects;
use crate::routes::Routes;
use crate::tokens::Tokens;
use crate::visitors::Visitors;

pub use access::AccessLog;
pub use body::Body;
pub use body::BoxError;
pub use config::Config;
pub use config::LimitsConfig;
pub use config::TokensConfig;
pub use documents::openapi;
pub use listener::Handler;
pub use listener::Listener;
pub use tls::Tls;
pub use tls::TlsFiles;
pub use tls::TlsMetrics;

/// The service's name in the mesh and in the configuration.
pub const NAME: &str = "edge";

/// How much longer than its own bound a task may take to stop.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// Opens what the edge needs, and says what it runs.
///
/// # Errors
/// A setting out of its range, a port in use, or a spool or a file that can't be opened or used.
pub async fn assemble(config: Config, cx: service::Context) -> anyhow::Result<Assembly> {
    let (assembly, address) = open(config, cx).await?;
    tracing::info!(address = %address, "the edge's public port");
    Ok(assembly)
}

/// As [`assemble`], with the public port's address: for whoever let the system choose the port.
///
/// # Errors
/// As [`assemble`].
pub async fn open(config: Config, cx: service::Context) -> anyhow::Result<(Assembly, SocketAddr)> {
    config.check()?;
    let socket = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("edge.listen: {} can't be bound", config.listen))?;
    let address = socket.local_addr()?;
    let tls = config.tls.map(|files| {
        let metrics = TlsMetrics::register(&mut cx.metrics.lock());
        Tls::load(files, metrics).context("edge.tls can't be used")
    });
    let tls = tls.transpose()?;
    let proxies = TrustedProxies::parse(&config.trusted_proxies)?;
    let cors = Cors::parse(&config.cors_origins)?;
    let places = config.places_file.as_deref().map(Places::open).transpose()?;
    let l2 = config.redis.as_deref().map(cache::L2::open).transpose();
    let l2 = l2.map_err(|error| ConfigError::new("edge.redis", error.to_string()))?;
    health::load();
    documents::load();
    let (contracts, contract_file) =
        Contracts::open(config.descriptors_file.as_deref(), &mut cx.metrics.lock())?;
    contracts.tell(&cx.mesh).await;

    let partitions = bus::topics::LINK_EVENTS.partitions;
    let spool_options = SpoolOptions {
        bytes_max: config.spool_bytes_max,
        ship_at_stop_max: config.ship_max,
        partitions,
        ..SpoolOptions::new(cx.data.join("spool"))
    };
    let (spool, cache_metrics, redirect_metrics, http, access) = {
        let mut registry = cx.metrics.lock();
        let spool = Spool::open(spool_options, Timestamp::now(), &mut registry)
            .context("the spool can't be opened")?;
        let caches = cache::Metrics::register(&mut registry);
        let redirects = RedirectMetrics::register(&mut registry);
        let lines_max = config.access_log_lines_max;
        let access = Access::new(config.access_log, lines_max, &mut registry);
        (spool, caches, redirects, HttpMetrics::register(&mut registry), access)
    };
    let routes =
        Routes::new(config.cached_links_max, config.stale_max, l2, &cache_metrics, cx.mesh.clone());
    let keys = Keys::new(&cache_metrics, cx.mesh.clone());
    let expected = auth::access_token::Expected {
        issuer: config.tokens.issuer,
        audience: config.tokens.audience,
    };
    let tokens = Tokens::new(expected, cx.mesh.clone());
    let grants = Grants::new(&cache_metrics, cx.mesh.clone());
    let visitors = Visitors::default();
    let (limits, limits_file) = {
        let options = limits::Options {
            file: config.limits.file.as_deref(),
            redis: config.limits.redis.as_deref().or(config.redis.as_deref()),
            wait_max: config.limits.wait_max,
            draft_headers: config.limits.draft_headers,
            visitors: visitors.clone(),
        };
        Limits::open(options, &mut cx.metrics.lock())?
    };
    let (ready, is_ready) = watch::channel(false);
    let lower = |(host, domain): (String, String)| (host.to_ascii_lowercase(), domain);
    let edge = Edge {
        redirects: Redirects {
            routes: routes.clone(),
            aliases: config.domain_aliases.into_iter().map(lower).collect(),
            proxies,
            limits: limits.clone(),
            places,
            visitors: visitors.clone(),
            spool: spool.clone(),
            partitions,
            metrics: redirect_metrics,
        },
        gateway: Gateway {
            mesh: cx.mesh.clone(),
            keys: keys.clone(),
            tokens: tokens.clone(),
            grants: grants.clone(),
            limits: limits.clone(),
            body_bytes_max: config.body_bytes_max,
            stream_bytes_max: config.stream_bytes_max,
            cors,
            health: health::routes(cx.mesh.clone(), is_ready.clone(), contracts.clone()),
            contracts: contracts.clone(),
            leaving: CancellationToken::new(),
        },
        http,
        access,
        is_tls: tls.is_some(),
    };
    let listener = Listener {
        socket,
        tls: tls.as_ref().map(Tls::acceptor).transpose()?,
        leaving: edge.gateway.leaving.clone(),
        handler: Arc::new(edge),
        connections_max: config.connections_max,
        age_max: config.connection_age_max,
        drain_max: config.drain_max,
        ready,
    };

    let (bus, mesh, instance) = (cx.bus, cx.mesh, cx.instance);
    let (for_limits, for_contract) = (mesh.clone(), mesh.clone());
    let (for_links, for_keys) = (bus.clone(), bus.clone());
    let (for_users, for_sessions) = (bus.clone(), bus.clone());
    let mut tasks = vec![
        Task::new("listener", |stop| listener.run(stop)).stop_within(config.drain_max + STOP_SLACK),
        Task::new("link-changes", |stop| changes::links(routes, for_links, stop)),
        Task::new("key-changes", |stop| changes::keys(keys, for_keys, stop)),
        Task::new("user-changes", |stop| changes::users(grants, for_users, stop)),
        Task::new("session-ends", {
            let tokens = tokens.clone();
            |stop| changes::sessions(tokens, for_sessions, stop)
        }),
        Task::new("signing-keys", |stop| tokens.run(stop)),
        Task::new("limits", |stop| limits.run(limits_file, for_limits, instance, stop)),
        Task::new("salts", |stop| visitors.run(mesh, stop)),
        // Last: by then the listener has appended all there will be.
        Task::new("shipper", |stop| Shipper::run(spool, bus, bus::topics::LINK_EVENTS.name, stop))
            .stop_within(config.ship_max + STOP_SLACK),
    ];
    if let Some(file) = contract_file {
        tasks
            .insert(1, Task::new("descriptors", |stop| contracts.follow(file, for_contract, stop)));
    }
    if let Some(tls) = tls {
        tasks.insert(1, Task::new("certificate", |stop| tls.follow(stop)));
    }
    let assembly = Assembly {
        tasks,
        ready: vec![Condition::new("public port", is_ready)],
        ..Assembly::default()
    };
    Ok((assembly, address))
}
