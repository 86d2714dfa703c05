//! Uses entities as a service would, and compares with plain SQL.

#![allow(unused_imports, unused_variables)] // A schema may have no relation.

use std::fmt::Debug;

use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait,
    IdenStatic, IntoActiveModel, Iterable, ModelTrait, PrimaryKeyTrait, Related, RelationDef, RelationTrait,
    Statement,
    sea_query::FromValueTuple,
};
use wharf::Pg;

struct Schema {
    name: &'static str,
    pg: Pg,
}

impl Schema {
    async fn open(name: &'static str, sql: &str) -> Schema {
        let manager = wharf::Manager::open("etc/infra.yaml").await.unwrap();
        let pg = manager.db(name).unwrap();
        pg.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name}");
        Schema { name, pg }
    }

    /// Rows are found, by their keys too, and come out as they were after they were inserted, and copied in.
    async fn check<E>(&self)
    where
        E: EntityTrait,
        E::Model: IntoActiveModel<E::ActiveModel> + Clone + PartialEq + Debug + Sync,
        E::ActiveModel: ActiveModelTrait<Entity = E> + ActiveModelBehavior + Send + Debug,
    {
        let table = E::default().table_name().to_owned();
        let at = format!("{}.{table}", self.name);
        let of = quoted(&table);
        let before = E::find().all(&self.pg).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        let count = self.number(&format!("SELECT count(*) FROM {of}")).await;
        assert_eq!(before.len(), count, "{at}");
        assert!(count > 0, "{at} has no row");
        for model in &before {
            let key = model.get_primary_key_value();
            let key = <E::PrimaryKey as PrimaryKeyTrait>::ValueType::from_value_tuple(key);
            let found = E::find_by_id(key).all(&self.pg).await;
            let found = found.unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_eq!(found, std::slice::from_ref(model), "{at}");
        }

        // Columns whose values the server computes.
        let given = |what: &str| {
            format!("SELECT attname::text FROM pg_attribute WHERE attrelid = {}::regclass AND {what}", literal(&of))
        };
        let computed = self.texts(&given("attgenerated <> ''")).await;
        let always = self.texts(&given("attidentity = 'a'")).await;
        let without = |model: &E::Model, columns: &[String]| {
            let mut model = model.clone().into_active_model().reset_all();
            for column in E::Column::iter().filter(|it| columns.iter().any(|name| name == it.as_str())) {
                model.not_set(column);
            }
            model
        };

        let session = self.pg.session().await.unwrap();
        // No foreign key and no trigger.
        session.execute_unprepared("SET LOCAL session_replication_role = replica").await.unwrap();
        let delete = format!("DELETE FROM {of}");
        session.execute_unprepared(&delete).await.unwrap();
        for model in &before {
            let model = without(model, &[&computed[..], &always].concat());
            let inserted = model.clone().insert(&session).await;
            inserted.unwrap_or_else(|error| panic!("{at}: {error}: {model:?}"));
        }
        let inserted = E::find().all(&session).await.unwrap();
        match always.is_empty() {
            true => assert_eq!(sorted(&inserted), sorted(&before), "{at}, inserted"),
            false => assert_eq!(inserted.len(), before.len(), "{at}, inserted"),
        }

        session.execute_unprepared(&delete).await.unwrap();
        let rows: Vec<E::ActiveModel> = before.iter().map(|model| without(model, &computed)).collect();
        let copied = session.copy_in::<E>().rows(rows).await;
        copied.unwrap_or_else(|error| panic!("{at}: {error}"));
        let copied = E::find().all(&session).await.unwrap();
        assert_eq!(sorted(&copied), sorted(&before), "{at}, copied in");
        session.rollback().await.unwrap();
    }

    /// As many rows were loaded as a plain join has, by what is a foreign key.
    async fn relation(&self, name: &str, loaded: usize, (to, via): (RelationDef, Option<RelationDef>)) {
        let mut sql = String::new();
        for (at, definition) in via.iter().chain([&to]).enumerate() {
            let (from, to) = (definition.from_tbl.sea_orm_table(), definition.to_tbl.sea_orm_table());
            let (from, to) = (quoted(&from.to_string()), quoted(&to.to_string()));
            let pairs: Vec<(String, String)> = definition
                .from_col
                .iter()
                .zip(definition.to_col.iter())
                .map(|(from, to)| (from.to_string(), to.to_string()))
                .collect();
            self.is_foreign_key(name, &from, &to, &pairs).await;
            if at == 0 {
                sql = format!("SELECT count(*) FROM {from} t0");
            }
            let on = pairs.iter().map(|(a, b)| format!("t{at}.{} = t{}.{}", quoted(a), at + 1, quoted(b)));
            sql += &format!(" JOIN {to} t{} ON {}", at + 1, on.collect::<Vec<_>>().join(" AND "));
        }
        assert_eq!(loaded, self.number(&sql).await, "{name}: {sql}");
    }

    async fn is_foreign_key(&self, name: &str, from: &str, to: &str, pairs: &[(String, String)]) {
        let key = |from: &str, to: &str, pairs: &mut Vec<(String, String)>| {
            pairs.sort();
            let pairs: Vec<String> = pairs.iter().map(|(a, b)| format!("{a}={b}")).collect();
            format!(
                "SELECT count(*) FROM pg_constraint c WHERE contype = 'f' AND conrelid = {}::regclass AND confrelid = \
                 {}::regclass AND {} = (SELECT string_agg(a.attname || '=' || b.attname, ',' ORDER BY a.attname COLLATE \
                 \"C\") FROM unnest(conkey, confkey) AS k (a, b) JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum \
                 = k.a JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = k.b)",
                literal(from),
                literal(to),
                literal(&pairs.join(","))
            )
        };
        let mut reversed = pairs.iter().map(|(a, b)| (b.clone(), a.clone())).collect();
        let found = self.number(&key(from, to, &mut pairs.to_vec())).await
            + self.number(&key(to, from, &mut reversed)).await;
        assert!(found > 0, "{name} is no foreign key: {from} to {to} by {pairs:?}");
    }

    async fn number(&self, sql: &str) -> usize {
        let row = self.pg.query_one_raw(statement(sql)).await;
        let row = row.unwrap_or_else(|error| panic!("{sql}: {error}")).unwrap();
        usize::try_from(row.try_get_by_index::<i64>(0).unwrap()).unwrap()
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.pg.query_all_raw(statement(sql)).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }
}

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

fn sorted<M: Debug>(models: &[M]) -> Vec<String> {
    let mut all: Vec<String> = models.iter().map(|model| format!("{model:?}")).collect();
    all.sort();
    all
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
