//! Migrations: once, in order, whoever starts them.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use stack::TestDatabase;

fn migrator(statements: &[&'static str]) -> Migrator {
    let migration = |(index, statement): (usize, &&'static str)| {
        let version = i64::try_from(index).unwrap() + 1;
        let kind = MigrationType::Simple;
        Migration::new(version, Cow::Borrowed("step"), kind, statement.into_sql_str(), false)
    };
    Migrator::with_migrations(statements.iter().enumerate().map(migration).collect())
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_apply_each_step_once() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    // Would fail if it ran twice.
    let steps =
        migrator(&["CREATE TABLE shop.goods (id int)", "CREATE INDEX by_id ON shop.goods (id)"]);
    let run = || pg::migrate(&database, &steps, "shop");
    let (first, second, third) = tokio::join!(run(), run(), run());
    first.and(second).and(third).unwrap();
    let (applied,): (i64,) = sqlx::query_as("SELECT count(*) FROM shop._migrations")
        .fetch_one(database.primary())
        .await
        .unwrap();
    assert_eq!(applied, 2);
}

#[tokio::test]
async fn each_schema_keeps_its_own_history() {
    let one = migrator(&["CREATE TABLE one.t ()"]);
    let two = migrator(&["CREATE TABLE two.t ()"]);
    let test = TestDatabase::migrated(&[("one", &one), ("two", &two)]).await.unwrap();
    let (tables,): (i64,) = sqlx::query_as("SELECT count(*) FROM pg_tables WHERE tablename = 't'")
        .fetch_one(test.open().primary())
        .await
        .unwrap();
    assert_eq!(tables, 2);
}

#[tokio::test]
async fn a_failing_step_changes_nothing_and_is_named() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    let steps = migrator(&["CREATE TABLE shop.goods (); SELECT 1/0"]);
    let error = format!("{:#}", pg::migrate(&database, &steps, "shop").await.unwrap_err());
    assert!(error.contains("migrating shop") && error.contains("division by zero"), "{error}");
    let (there,): (bool,) = sqlx::query_as("SELECT to_regclass('shop.goods') IS NOT NULL")
        .fetch_one(database.primary())
        .await
        .unwrap();
    assert!(!there);
}

#[tokio::test]
async fn a_step_that_changed_after_it_was_applied_is_refused() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    pg::migrate(&database, &migrator(&["CREATE TABLE shop.a ()"]), "shop").await.unwrap();
    let changed = migrator(&["CREATE TABLE shop.b ()"]);
    assert!(pg::migrate(&database, &changed, "shop").await.is_err());
    assert!(pg::migrate(&database, &changed, "shop; drop").await.is_err());
}
