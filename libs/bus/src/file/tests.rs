//! Tests of the file adapter.
