//! Month partitions, made ahead and dropped by retention.

use jiff::Timestamp;
use pg::partitions::{drop_before, ensure_months};
use stack::TestDatabase;

const TABLE: &str = "CREATE SCHEMA shop;
    CREATE TABLE shop.sales (at timestamptz NOT NULL, id int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn rows_find_their_month_and_old_months_go() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    let primary = database.primary();
    sqlx::raw_sql(TABLE).execute(primary).await.unwrap();

    let (from, until) = (at("2026-11-30T23:00:00Z"), at("2027-02-01T00:00:00Z"));
    let ensure = || ensure_months(primary, "shop.sales", from, until);
    let (one, two) = tokio::join!(ensure(), ensure());
    assert_eq!(one.unwrap() + two.unwrap(), 4, "each month is made once");
    sqlx::raw_sql(
        "INSERT INTO shop.sales VALUES
         ('2026-11-01Z', 1), ('2026-11-30 23:59:59.999999Z', 2), ('2026-12-01Z', 3), ('2027-02-28Z', 4)",
    )
    .execute(primary)
    .await
    .unwrap();

    let almost = drop_before(primary, "shop.sales", at("2026-11-30T23:59:59Z")).await.unwrap();
    assert!(almost.is_empty(), "a month that has not ended stays");
    let dropped = drop_before(primary, "shop.sales", at("2026-12-31T00:00:00Z")).await.unwrap();
    assert_eq!(dropped, ["shop.sales_y2026m11"]);
    let (left,): (Vec<i32>,) = sqlx::query_as("SELECT array_agg(id ORDER BY id) FROM shop.sales")
        .fetch_one(primary)
        .await
        .unwrap();
    assert_eq!(left, [3, 4]);
}

#[tokio::test]
async fn a_new_partition_has_its_tables_keys_and_defaults() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    let primary = database.primary();
    sqlx::raw_sql(
        "CREATE SCHEMA shop;
         CREATE TABLE shop.days (day date, n int NOT NULL DEFAULT 7 CHECK (n > 0), PRIMARY KEY (day))
         PARTITION BY RANGE (day)",
    )
    .execute(primary)
    .await
    .unwrap();
    let now = at("2026-07-15T12:00:00Z");
    assert_eq!(ensure_months(primary, "shop.days", now, now).await.unwrap(), 1);
    let insert = "INSERT INTO shop.days (day) VALUES ('2026-07-31') RETURNING n";
    let (n,): (i32,) = sqlx::query_as(insert).fetch_one(primary).await.unwrap();
    assert_eq!(n, 7);
    assert!(sqlx::raw_sql(insert).execute(primary).await.is_err(), "the key holds");
    let negative = "INSERT INTO shop.days VALUES ('2026-07-30', -1)";
    assert!(sqlx::raw_sql(negative).execute(primary).await.is_err(), "the check holds");
}

#[tokio::test]
async fn an_absurd_span_is_refused_before_anything_is_made() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    sqlx::raw_sql(TABLE).execute(database.primary()).await.unwrap();
    let long = ensure_months(
        database.primary(),
        "shop.sales",
        at("1970-01-01T00:00:00Z"),
        at("2026-01-01T00:00:00Z"),
    );
    let error = long.await.unwrap_err().to_string();
    assert!(error.contains("673 months of shop.sales asked for, of 240 at most"), "{error}");
    let (partitions,): (i64,) = sqlx::query_as("SELECT count(*) FROM pg_inherits")
        .fetch_one(database.primary())
        .await
        .unwrap();
    assert_eq!(partitions, 0);
}
