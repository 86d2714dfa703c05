//! Steps for Citus, against an imitation of its functions that records their calls (citus.sql), and on a plain PostgreSQL.

// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

#[allow(dead_code)]
#[path = "../../examples/citus.rs"]
mod example;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::{
    Error, Pg,
    ext::citus::{self, CitusError, DistributedSchema, DistributedTable, ReferenceTable},
    migrate::{DryRun, Unsafe},
};

use crate::{
    migrate::{migrator, text},
    support::{Log, TestDatabase, number},
};

mod tenant {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "tenant")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod visit {
    use sea_orm::entity::prelude::*;

    /// With a schema, and names that have to be quoted.
    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(schema_name = "Odd \"1\"", table_name = "it's a Visit")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_name = "Tenant's \\ Id")]
        pub tenant_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

async fn with_citus() -> TestDatabase {
    let database = TestDatabase::new().await;
    database.pg().await.execute_unprepared(include_str!("citus.sql")).await.unwrap();
    database
}

/// What the imitation was told, since the last time.
async fn told(pg: &Pg) -> Vec<String> {
    let sql =
        "WITH told AS (DELETE FROM citus_stub.calls RETURNING *) SELECT call FROM told ORDER BY at";
    let rows = pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

fn citus_error(error: DbErr) -> CitusError {
    match Error::from(error) {
        Error::Citus(error) => error,
        other => panic!("{other:?}"),
    }
}

struct Steps;

impl MigratorTrait for Steps {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Step)]
    }
}

struct Step;

impl MigrationName for Step {
    fn name(&self) -> &str {
        "m1_step"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(
            "CREATE TABLE tenant (id bigint PRIMARY KEY);
             CREATE TABLE invoice (tenant_id bigint, number bigint, PRIMARY KEY (tenant_id, number));
             CREATE TABLE jpg_file (code text PRIMARY KEY)",
        )
        .await?;
        ReferenceTable::named("jpg_file").create(db).await?;
        DistributedTable::new(tenant::Entity, tenant::Column::Id)
            .shard_count(64)
            .create(db)
            .await?;
        let invoice = DistributedTable::named("invoice", "tenant_id");
        invoice.colocate_with(tenant::Entity).create(db).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        DistributedTable::named("invoice", "tenant_id").undistribute(db).await?;
        let tenant = DistributedTable::new(tenant::Entity, tenant::Column::Id);
        tenant.cascade_via_foreign_keys().undistribute(db).await?;
        ReferenceTable::named("jpg_file").undistribute(db).await?;
        db.execute_unprepared("DROP TABLE tenant, invoice, jpg_file").await.map(drop)
    }
}

#[tokio::test]
async fn a_migration_distributes_and_its_way_back_undistributes() {
    let database = with_citus().await;
    let pg = database.pg().await;
    // A dry run shows what Citus is told, although a table's name looks like a catalog's.
    let planned = pg.migrate::<Steps>().dry_run().await.unwrap();
    assert_eq!(
        planned.migrations[0].statements[1..],
        [
            "SELECT create_reference_table('\"jpg_file\"')",
            "SELECT create_distributed_table('\"tenant\"', 'id', shard_count => 64)",
            "SELECT create_distributed_table('\"invoice\"', 'tenant_id', colocate_with => '\"tenant\"')",
        ]
    );
    assert_eq!(told(&pg).await, [""; 0]);
    pg.migrate::<Steps>().await.unwrap();
    assert_eq!(
        told(&pg).await,
        [
            "reference public.jpg_file",
            "distribute public.tenant by id hash with default into 64",
            "distribute public.invoice by tenant_id hash with public.tenant",
        ]
    );
    pg.migrate::<Steps>().down(1).await.unwrap();
    assert_eq!(
        told(&pg).await,
        [
            "undistribute public.invoice",
            "undistribute public.tenant cascade",
            "undistribute public.jpg_file",
        ]
    );
    assert_eq!(citus::version(&pg).await.unwrap().as_deref(), Some("12.1.4"));
}

#[tokio::test]
async fn names_are_taken_as_they_are_whatever_they_hold() {
    let database = with_citus().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE SCHEMA \"Odd \"\"1\"\"\";
         CREATE TABLE \"Odd \"\"1\"\"\".\"it's a Visit\" (\"Tenant's \\ Id\" bigint, number bigint);
         CREATE TABLE \"default\" (\"ID\" bigint, id bigint)",
    )
    .await
    .unwrap();
    // `default` is a table here, and not Citus' word.
    DistributedTable::named("default", "ID").without_colocation().create(&pg).await.unwrap();
    let visits = DistributedTable::new(visit::Entity, visit::Column::TenantId);
    visits.colocate_with_named("default").create(&pg).await.unwrap();
    let numbers = DistributedTable::named(("Odd \"1\"", "it's a Visit"), "number");
    numbers.undistribute(&pg).await.unwrap();
    numbers.colocate_with(visit::Entity).create(&pg).await.unwrap_err();
    DistributedSchema::named("Odd \"1\"").create(&pg).await.unwrap();
    assert_eq!(
        told(&pg).await,
        [
            "distribute public.\"default\" by ID hash with none",
            "distribute \"Odd \"\"1\"\"\".\"it's a Visit\" by Tenant's \\ Id hash with public.\"default\"",
            "undistribute \"Odd \"\"1\"\"\".\"it's a Visit\"",
            "distribute schema Odd \"1\"",
        ]
    );
}

struct Tenant;

impl MigratorTrait for Tenant {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Schema), Box::new(Step)]
    }
}

struct Schema;

impl MigrationName for Schema {
    fn name(&self) -> &str {
        "m0_schema"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Schema {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        DistributedSchema::current().create(manager.get_connection()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        DistributedSchema::current().undistribute(manager.get_connection()).await
    }
}

/// Although Citus' view is in `public`, which is not in the search path then.
#[tokio::test]
async fn in_a_scoped_view_it_is_the_tenants_schema() {
    let database = with_citus().await;
    let pg = database.pg().await;
    let sql = "CREATE TABLE tenant (id bigint PRIMARY KEY)";
    pg.execute_unprepared(sql).await.unwrap();
    let scoped = pg.scoped("Ten\"ant").unwrap();
    scoped.migrate::<Tenant>().await.unwrap();
    assert_eq!(
        told(&pg).await,
        [
            "distribute schema Ten\"ant",
            "reference \"Ten\"\"ant\".jpg_file",
            "distribute \"Ten\"\"ant\".tenant by id hash with default into 64",
            "distribute \"Ten\"\"ant\".invoice by tenant_id hash with \"Ten\"\"ant\".tenant",
        ]
    );
    // A statement of the view, and not of a migration.
    let tenants = DistributedTable::new(tenant::Entity, tenant::Column::Id);
    tenants.undistribute(&scoped).await.unwrap();
    DistributedSchema::current().undistribute(&scoped).await.unwrap();
    assert_eq!(
        told(&pg).await,
        ["undistribute \"Ten\"\"ant\".tenant", "undistribute schema Ten\"ant"]
    );
    let nowhere = pg.scoped("nowhere").unwrap();
    let error = DistributedSchema::current().create(&nowhere).await.unwrap_err();
    assert!(matches!(citus_error(error), CitusError::NoSchema));
}

#[tokio::test]
async fn a_plain_postgresql_is_left_as_it_is_which_is_logged() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let (log, _guard) = Log::of_this_thread();
    pg.migrate::<Tenant>().await.unwrap();
    for (said, times) in [
        ("schema `public` is not distributed, because this database has no Citus", 1),
        ("table `jpg_file` is not a reference table, because this database has no Citus", 1),
        ("table `tenant` is not distributed, because this database has no Citus", 1),
        ("table `invoice` is not distributed, because this database has no Citus", 1),
        ("has no Citus", 4),
    ] {
        let lines = log.lines(said);
        assert_eq!(lines.len(), times, "{said}: {}", log.text());
        assert!(lines.iter().all(|line| line.contains(" INFO ")), "{lines:?}");
    }
    pg.migrate::<Tenant>().down(2).await.unwrap();
    let said = "table `tenant` is not undistributed, because this database has no Citus";
    assert_eq!(log.times(said), 1, "{}", log.text());
    assert_eq!(citus::version(&pg).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_required_is_an_error_where_there_is_no_citus() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let (log, _guard) = Log::of_this_thread();
    let table = DistributedTable::new(tenant::Entity, tenant::Column::Id).required();
    let refused = [
        ("table `tenant`", table.create(&pg).await),
        ("table `tenant`", table.undistribute(&pg).await),
        ("table `tenant`", ReferenceTable::new(tenant::Entity).required().create(&pg).await),
        ("schema `t`", DistributedSchema::named("t").required().create(&pg).await),
    ];
    for (subject, refused) in refused {
        let error = citus_error(refused.unwrap_err());
        assert!(matches!(error, CitusError::Missing { .. }), "{error:?}");
        let said = error.to_string();
        for part in [subject, "has no Citus", "extensions: [citus]", "image citusdata/citus"] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    }
    assert_eq!(log.times("has no Citus"), 0, "{}", log.text());
}

#[tokio::test]
async fn what_citus_refuses_is_said_in_its_words_with_its_hint() {
    let database = with_citus().await;
    let pg = database.pg().await;
    let sql = "CREATE TABLE tenant (id bigint PRIMARY KEY); CREATE TABLE other (id bigint)";
    pg.execute_unprepared(sql).await.unwrap();
    let misspelled = DistributedTable::named("tenant", "ID").create(&pg).await.unwrap_err();
    let error = Error::from(misspelled);
    assert_eq!(error.sqlstate().as_deref(), Some("42703"));
    assert_eq!(
        error.to_string(),
        "table `tenant`: column \"ID\" of relation \"tenant\" does not exist"
    );
    let other = DistributedTable::named("other", "id").colocate_with(tenant::Entity);
    assert_eq!(
        citus_error(other.create(&pg).await.unwrap_err()).to_string(),
        "table `other`: relation \"tenant\" is not distributed (Colocation needs a distributed table; \
         Distribute it first)"
    );
    pg.execute_unprepared("DROP FUNCTION pg_catalog.citus_schema_distribute").await.unwrap();
    let old = DistributedSchema::named("public").create(&pg).await.unwrap_err();
    let error = citus_error(old);
    assert!(matches!(error, CitusError::TooOld { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "schema `public`: schema-based sharding needs Citus 12 or later; upgrade Citus"
    );
}

fn rules(planned: &DryRun) -> Vec<(Unsafe, String)> {
    let all = planned.migrations.iter().flat_map(|it| &it.findings);
    all.map(|it| (it.what, format!("{} {}", it.table, it.detail.as_deref().unwrap_or(""))))
        .collect()
}

migrator!(Refused:
    text(
        "m1",
        "CREATE TABLE shop (id bigint PRIMARY KEY);; CREATE TABLE currency (code text PRIMARY KEY);; \
         SELECT 1 WHERE to_regproc('create_distributed_table') IS NULL",
        ""
    ),
    Distribute("m2", "shop", "id"),
    text(
        "m3",
        "CREATE TABLE item (id bigint PRIMARY KEY, shop bigint REFERENCES shop, currency text REFERENCES currency);; \
         CREATE TABLE sale (shop bigint, at int, number bigint UNIQUE, PRIMARY KEY (shop, number), \
                            FOREIGN KEY (shop) REFERENCES shop, EXCLUDE (at WITH =));; \
         CREATE TABLE by_int (shop int PRIMARY KEY, next int REFERENCES by_int);; \
         CREATE TABLE parts (shop bigint, sale bigint, number bigint, \
                             FOREIGN KEY (shop, sale) REFERENCES sale, \
                             FOREIGN KEY (sale, shop) REFERENCES sale (shop, number));; \
         CREATE TABLE local (shop bigint REFERENCES shop)",
        ""
    ),
    Distribute("m4", "item", "shop"),
    Distribute("m5", "sale", "shop"),
    Distribute("m6", "by_int", "shop"),
    Distribute("m7", "parts", "shop"),
    text("m8", "CREATE UNIQUE INDEX late ON sale (at)", ""),
    text("m9", "-- wharf:allow citus-unique: to be dropped\nCREATE UNIQUE INDEX later ON sale (at) WHERE at > 1", ""),
);

/// A migration, a table, its column.
struct Distribute(&'static str, &'static str, &'static str);

impl MigrationName for Distribute {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Distribute {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if self.1 == "shop" {
            ReferenceTable::named("currency").create(db).await?;
        }
        DistributedTable::named(self.1, self.2).create(db).await
    }
}

/// On a plain PostgreSQL the steps do nothing, so that only the lint can tell before production does.
#[tokio::test]
async fn the_lint_finds_keys_that_citus_would_refuse() {
    let (target, scratch) = (TestDatabase::new().await, TestDatabase::new().await);
    let pg = target.pg().await;
    // What is applied to the target counts, too.
    pg.migrate::<Refused>().up(2).await.unwrap();
    let planned = pg.migrate::<Refused>().dry_run_on(&scratch.pg().await).await.unwrap();
    let found = rules(&planned);
    let of = |what: Unsafe, said: &str| (what, said.to_owned());
    use Unsafe::{CitusForeignKey, CitusUnique};
    assert_eq!(
        found,
        [
            // m3: to a table that is distributed already.
            of(
                CitusForeignKey,
                "item its foreign key item_shop_fkey refers to shop, which is distributed, and the table itself is not"
            ),
            of(
                CitusForeignKey,
                "local its foreign key local_shop_fkey refers to shop, which is distributed, and the table itself is not"
            ),
            of(
                CitusForeignKey,
                "sale its foreign key sale_shop_fkey refers to shop, which is distributed, and the table itself is not"
            ),
            of(CitusUnique, "item its primary key item_pkey lacks the distribution column shop"),
            of(
                CitusForeignKey,
                "parts its foreign key parts_sale_shop_fkey refers to sale, which is distributed, and the table itself is not"
            ),
            of(
                CitusForeignKey,
                "parts its foreign key parts_shop_sale_fkey refers to sale, which is distributed, and the table itself is not"
            ),
            of(
                CitusUnique,
                "sale its unique index sale_at_excl lacks the distribution column shop"
            ),
            of(
                CitusUnique,
                "sale its unique index sale_number_key lacks the distribution column shop"
            ),
            of(
                CitusForeignKey,
                "by_int its foreign key by_int_next_fkey refers to by_int, which is distributed by shop, to which its column shop does not refer"
            ),
            of(CitusUnique, "sale its unique index late lacks the distribution column shop"),
        ]
    );
    let shown = planned.to_string();
    for part in [
        "-- unsafe: Citus refuses item: its primary key item_pkey lacks the distribution column shop; add that column",
        " [citus-unique]",
        "-- with Citus: SELECT create_distributed_table('\"item\"', 'shop');",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
}

migrator!(Together:
    text(
        "m1",
        "CREATE TABLE shop (id bigint PRIMARY KEY);; CREATE TABLE currency (code text PRIMARY KEY);; \
         CREATE TABLE sale (shop bigint REFERENCES shop, number bigint, currency text REFERENCES currency, \
                            other int, PRIMARY KEY (shop, number));; \
         CREATE TABLE refund (shop bigint, sale bigint, FOREIGN KEY (shop, sale) REFERENCES sale);; \
         CREATE TABLE by_int (shop int PRIMARY KEY);; \
         ALTER TABLE sale ADD FOREIGN KEY (other) REFERENCES by_int;; \
         CREATE TABLE plain (id bigint PRIMARY KEY, shop bigint REFERENCES plain)",
        ""
    ),
    Several("m2", &[("shop", "id"), ("sale", "shop"), ("refund", "shop"), ("by_int", "shop")]),
);

struct Several(&'static str, &'static [(&'static str, &'static str)]);

impl MigrationName for Several {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Several {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        ReferenceTable::named("currency").create(db).await?;
        for (table, column) in self.1 {
            DistributedTable::named(*table, *column).create(db).await?;
        }
        Ok(())
    }
}

/// Keys with the column, foreign keys to colocated and to reference tables, and all of tables that are not distributed.
#[tokio::test]
async fn the_lint_leaves_alone_what_citus_takes() {
    let database = TestDatabase::new().await;
    let planned = database.pg().await.migrate::<Together>().dry_run().await.unwrap();
    let found: Vec<_> = rules(&planned);
    assert_eq!(
        found,
        [(
            Unsafe::CitusForeignKey,
            "sale its foreign key sale_other_fkey refers to by_int, which is not colocated with it"
                .to_owned()
        )],
        "{planned}"
    );
    let said = planned.migrations[1].findings[0].to_string();
    assert!(said.ends_with("[citus-foreign-key]"), "{said}");
    // With Citus, the same statements are those that it is told, and nothing else is found.
    let database = with_citus().await;
    let planned = database.pg().await.migrate::<Together>().dry_run().await.unwrap();
    assert_eq!(rules(&planned), found);
    assert_eq!(
        planned.migrations[1].statements[..2],
        [
            "SELECT create_reference_table('\"currency\"')",
            "SELECT create_distributed_table('\"shop\"', 'id')",
        ]
    );
}

migrator!(ByHand:
    text(
        "m1",
        "CREATE TABLE shop (id bigint PRIMARY KEY);; CREATE TABLE sale (shop bigint, number bigint, at bigint);; \
         CREATE TABLE other (id bigint PRIMARY KEY);; CREATE TABLE currency (code text PRIMARY KEY, at bigint)",
        ""
    ),
    text(
        "m2",
        "ALTER TABLE sale ADD FOREIGN KEY (shop) REFERENCES shop;; ALTER TABLE sale ADD UNIQUE (number);; \
         ALTER TABLE sale ADD COLUMN currency text REFERENCES currency;; \
         ALTER TABLE shop ADD FOREIGN KEY (id) REFERENCES other;; ALTER TABLE currency ADD UNIQUE (at)",
        ""
    ),
);

/// Here outside of the migrations, in the schema of a tenant. The scratch database has no Citus.
#[tokio::test]
async fn the_lint_knows_what_is_distributed_in_the_database_itself() {
    let (target, scratch) = (with_citus().await, TestDatabase::new().await);
    let (pg, scratch) = (target.pg().await, scratch.pg().await);
    let (pg, scratch) = (pg.scoped("Ten\"ant").unwrap(), scratch.scoped("Ten\"ant").unwrap());
    pg.migrate::<ByHand>().up(1).await.unwrap();
    pg.execute_unprepared(
        "SELECT create_distributed_table('shop', 'id'), create_distributed_table('sale', 'shop'),
                create_distributed_table('other', 'id'), create_reference_table('currency');
         UPDATE pg_dist_partition SET colocationid = 7 WHERE logicalrelid = 'other'::regclass",
    )
    .await
    .unwrap();
    let planned = pg.migrate::<ByHand>().dry_run_on(&scratch).await.unwrap();
    let found = rules(&planned).into_iter().filter(|(_, said)| said.contains(" its "));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (
                Unsafe::CitusUnique,
                "sale its unique index sale_number_key lacks the distribution column shop"
                    .to_owned()
            ),
            (
                Unsafe::CitusForeignKey,
                "shop its foreign key shop_id_fkey refers to other, which is not colocated with it"
                    .to_owned()
            ),
        ],
        "{planned}"
    );
}

#[tokio::test]
async fn the_example_runs_with_citus_and_without() {
    let database = with_citus().await;
    let pg = database.pg().await;
    for _ in 0..2 {
        example::billing(&pg).await.unwrap();
    }
    assert_eq!(
        told(&pg).await,
        [
            "reference public.currency",
            "distribute public.tenant by id hash with default",
            "distribute public.invoice by tenant_id hash with public.tenant",
        ]
    );
    assert_eq!(number(&pg, "SELECT count(*) FROM invoice").await, 30);
    let plain = TestDatabase::new().await;
    example::billing(&plain.pg().await).await.unwrap();
    let scratch = TestDatabase::new().await;
    let planned = scratch.pg().await.migrate::<example::Migrator>().dry_run().await.unwrap();
    assert_eq!(rules(&planned), [], "{planned}");
}
