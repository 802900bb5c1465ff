//! The cache as its users see it: versions, age, single flight; and its L2 on a real Redis.

mod cache {
    mod freshness;
    mod shared;
    mod source;
    mod versions;
}
