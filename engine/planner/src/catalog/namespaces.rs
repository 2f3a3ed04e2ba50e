//! Names of catalogs and databases.
//!
//! All tables share one name space: of `catalog.database.table` only the last part identifies the table. The parts
//! before it must be names of catalogs and databases that exist.

use std::collections::{BTreeMap, BTreeSet};

const CATALOG_DEFAULT: &str = "default_catalog";
const DATABASE_DEFAULT: &str = "default_database";

/// The catalogs with their databases, and the current catalog.
#[derive(Debug)]
pub(crate) struct Namespaces {
    databases: BTreeMap<String, BTreeSet<String>>,
    /// The database that is current in a catalog when the catalog becomes the current one.
    first_databases: BTreeMap<String, String>,
    current_catalog: String,
    current_database: String,
}

impl Default for Namespaces {
    fn default() -> Self {
        let databases = BTreeSet::from([DATABASE_DEFAULT.to_owned()]);
        Self {
            databases: BTreeMap::from([(CATALOG_DEFAULT.to_owned(), databases)]),
            first_databases: BTreeMap::from([(CATALOG_DEFAULT.to_owned(), DATABASE_DEFAULT.to_owned())]),
            current_catalog: CATALOG_DEFAULT.to_owned(),
            current_database: DATABASE_DEFAULT.to_owned(),
        }
    }
}

impl Namespaces {
    /// Adds a catalog with one database.
    pub(crate) fn add_catalog(&mut self, name: &str, database: Option<&str>) {
        let database = database.unwrap_or("default").to_owned();
        let first = self.first_databases.entry(name.to_owned());
        first.or_insert_with(|| database.clone());
        self.databases.entry(name.to_owned()).or_default().insert(database);
    }

    /// Adds a database to a catalog, or to the current one.
    pub(crate) fn add_database(&mut self, catalog: Option<&str>, name: &str) -> Result<(), String> {
        let catalog = catalog.unwrap_or(&self.current_catalog).to_owned();
        self.check_catalog(&catalog)?;
        self.databases.entry(catalog).or_default().insert(name.to_owned());
        Ok(())
    }

    /// Makes a catalog the current one.
    pub(crate) fn use_catalog(&mut self, name: &str) -> Result<(), String> {
        self.check_catalog(name)?;
        name.clone_into(&mut self.current_catalog);
        self.current_database = self.first_databases.get(name).cloned().unwrap_or_default();
        Ok(())
    }

    /// Makes a catalog the current one, if it is given, and checks that it has the database.
    pub(crate) fn use_database(&mut self, catalog: Option<&str>, name: &str) -> Result<(), String> {
        self.check(catalog, Some(name))?;
        if let Some(catalog) = catalog {
            self.use_catalog(catalog)?;
        }
        name.clone_into(&mut self.current_database);
        Ok(())
    }

    pub(crate) fn current_catalog(&self) -> &str {
        &self.current_catalog
    }

    pub(crate) fn current_database(&self) -> &str {
        &self.current_database
    }

    /// Returns the names of all catalogs.
    pub(crate) fn catalogs(&self) -> impl Iterator<Item = &str> {
        self.databases.keys().map(String::as_str)
    }

    /// Returns the names of the databases of the current catalog.
    pub(crate) fn databases(&self) -> impl Iterator<Item = &str> {
        let databases = self.databases.get(&self.current_catalog);
        databases.into_iter().flatten().map(String::as_str)
    }

    /// Checks the parts of a name before the table.
    pub(crate) fn check(&self, catalog: Option<&str>, database: Option<&str>) -> Result<(), String> {
        if let Some(catalog) = catalog {
            self.check_catalog(catalog)?;
        }
        let catalog = catalog.unwrap_or(&self.current_catalog);
        let (Some(database), Some(known)) = (database, self.databases.get(catalog)) else {
            return Ok(());
        };
        if known.contains(database) {
            return Ok(());
        }
        let hint = millstream_proto::spec::did_you_mean(database, known.iter().map(String::as_str));
        Err(format!(
            "unknown database `{database}` in the catalog `{catalog}`{hint}; create it with CREATE DATABASE, or write \
             the table's name alone"
        ))
    }

    fn check_catalog(&self, name: &str) -> Result<(), String> {
        if self.databases.contains_key(name) {
            return Ok(());
        }
        let hint = millstream_proto::spec::did_you_mean(name, self.databases.keys().map(String::as_str));
        Err(format!(
            "unknown catalog `{name}`{hint}; create it with CREATE CATALOG, or write the table's name alone"
        ))
    }
}
