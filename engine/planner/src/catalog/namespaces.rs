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
    current_catalog: String,
}

impl Default for Namespaces {
    fn default() -> Self {
        let databases = BTreeSet::from([DATABASE_DEFAULT.to_owned()]);
        Self {
            databases: BTreeMap::from([(CATALOG_DEFAULT.to_owned(), databases)]),
            current_catalog: CATALOG_DEFAULT.to_owned(),
        }
    }
}

impl Namespaces {
    /// Adds a catalog with one database.
    pub(crate) fn add_catalog(&mut self, name: &str, database: Option<&str>) {
        let database = database.unwrap_or("default").to_owned();
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
        Ok(())
    }

    /// Makes a catalog the current one, if it is given, and checks that it has the database.
    pub(crate) fn use_database(&mut self, catalog: Option<&str>, name: &str) -> Result<(), String> {
        self.check(catalog, Some(name))?;
        match catalog {
            Some(catalog) => self.use_catalog(catalog),
            None => Ok(()),
        }
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
