//! The edge over real connections: before it real HTTP clients, behind it small services in the mesh that a test controls.
//! The bus and the spool are the real ones.

mod edge {
    mod api;
    mod browsers;
    mod caching;
    mod client_streams;
    mod clients;
    mod documents;
    mod doubles;
    mod downloads;
    mod errors;
    mod keys;
    mod limits;
    mod port;
    mod protocols;
    mod rates;
    mod redirects;
    mod reload;
    mod sending;
    mod streaming;
    mod streams;
    mod tokens;
    mod widgets;
    mod world;
}
