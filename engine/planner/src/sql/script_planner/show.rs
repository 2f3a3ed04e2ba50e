//! The rows of `SHOW` and `DESCRIBE`.

use millstream_graph::sql_type;

use super::super::show::table;
use super::super::statement::{Listed, NamePattern, Show};
use super::super::tokens::Name;
use super::ScriptPlanner;
use crate::catalog::{ColumnKind, TableDeclaration};
use crate::error::Error;

impl ScriptPlanner<'_> {
    /// Adds the output of a statement to the listings.
    pub(super) fn show(&mut self, shown: &Show) -> Result<(), Vec<Error>> {
        let namespaces = &self.catalog.namespaces;
        let listing = match shown {
            Show::List(listed, pattern) => {
                let title = match listed {
                    Listed::Tables => "table name",
                    Listed::Views => "view name",
                    Listed::Functions => "function name",
                    Listed::Databases => "database name",
                    Listed::Catalogs => "catalog name",
                };
                names(title, self.listed(*listed), pattern.as_ref())
            }
            Show::CurrentCatalog => names(
                "current catalog name",
                vec![namespaces.current_catalog().to_owned()],
                None,
            ),
            Show::CurrentDatabase => names(
                "current database name",
                vec![namespaces.current_database().to_owned()],
                None,
            ),
            Show::Columns(name, pattern) => self.columns(name, pattern.as_ref())?,
            Show::Describe(name) => self.columns(name, None)?,
            Show::Create(name) => self.statement_of(name)?,
        };
        self.settings.listings.push(listing);
        Ok(())
    }

    /// Returns names in alphabetical order.
    fn listed(&self, listed: Listed) -> Vec<String> {
        let views = || self.views.keys().filter(|name| self.catalog.is_step(name)).cloned();
        let mut names: Vec<String> = match listed {
            // As in Flink, views are tables, too.
            Listed::Tables => self
                .catalog
                .declarations
                .keys()
                .filter(|name| !name.contains('#'))
                .cloned()
                .chain(views())
                .collect(),
            Listed::Views => views().collect(),
            Listed::Functions => self.catalog.functions().public_names().map(str::to_owned).collect(),
            Listed::Databases => self.catalog.namespaces.databases().map(str::to_owned).collect(),
            Listed::Catalogs => self.catalog.namespaces.catalogs().map(str::to_owned).collect(),
        };
        names.sort();
        names.dedup();
        names
    }

    /// Returns the columns of a table or view.
    fn columns(&self, name: &Name, pattern: Option<&NamePattern>) -> Result<String, Vec<Error>> {
        self.check_qualifier(name)?;
        let titles = ["name", "type", "null", "key", "extras", "watermark"];
        let nullable = || "TRUE".to_owned();
        let mut rows: Vec<Vec<String>> = Vec::new();
        if let Some(step) = self.catalog.steps.iter().find(|step| step.name == name.value()) {
            rows.extend(step.plan.schema().fields().iter().map(|field| {
                let data_type = sql_type::name(field.data_type());
                vec![
                    field.name().clone(),
                    data_type,
                    nullable(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]
            }));
        } else {
            let declared = self
                .catalog
                .declarations
                .get(name.value())
                .zip(self.catalog.table(name.value()));
            let Some((declaration, resolved)) = declared else {
                return match self.catalog.is_broken(name.value()) {
                    true => Err(Vec::new()),
                    false => Err(vec![self.unknown_table(name)]),
                };
            };
            for (column, resolved) in declaration.columns.iter().zip(&resolved.columns) {
                let watermark = declaration
                    .watermark
                    .as_ref()
                    .filter(|clause| clause.column == column.name);
                let attribute = match (resolved.is_proctime, watermark) {
                    (true, _) => " *PROCTIME*",
                    (false, Some(_)) => " *ROWTIME*",
                    (false, None) => "",
                };
                let is_key = declaration.primary_key.iter().any(|(key, _)| *key == column.name);
                rows.push(vec![
                    column.name.clone(),
                    format!("{}{attribute}", sql_type::name(resolved.field.data_type())),
                    nullable(),
                    if is_key { key(declaration) } else { String::new() },
                    extras(&column.kind),
                    watermark
                        .map(|clause| clause.expression.to_string())
                        .unwrap_or_default(),
                ]);
            }
        }
        rows.retain(|row| pattern.is_none_or(|pattern| pattern.selects(&row[0])));
        Ok(table(&titles, &rows))
    }

    /// Returns the statement that declares a table or view as it is now.
    fn statement_of(&self, name: &Name) -> Result<String, Vec<Error>> {
        self.check_qualifier(name)?;
        if let Some(query) = self
            .views
            .get(name.value())
            .filter(|_| self.catalog.is_step(name.value()))
        {
            return Ok(format!("CREATE VIEW `{}` AS {query}\n", name.value()));
        }
        match self.catalog.declarations.get(name.value()) {
            Some(declaration) => Ok(create_table(declaration)),
            None if self.catalog.is_broken(name.value()) => Err(Vec::new()),
            None => Err(vec![self.unknown_table(name)]),
        }
    }
}

fn names(title: &str, names: Vec<String>, pattern: Option<&NamePattern>) -> String {
    let names = names
        .into_iter()
        .filter(|name| pattern.is_none_or(|pattern| pattern.selects(name)));
    table(&[title], &names.map(|name| vec![name]).collect::<Vec<_>>())
}

fn key(declaration: &TableDeclaration) -> String {
    let columns: Vec<&str> = declaration.primary_key.iter().map(|(name, _)| name.as_str()).collect();
    format!("PRI({})", columns.join(", "))
}

fn extras(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Physical(_) => String::new(),
        ColumnKind::Metadata { key, is_virtual, .. } => {
            let key = key.as_ref().map(|key| format!(" FROM '{key}'")).unwrap_or_default();
            format!("METADATA{key}{}", if *is_virtual { " VIRTUAL" } else { "" })
        }
        ColumnKind::Computed(expression) => format!("AS {expression}"),
    }
}

fn create_table(declaration: &TableDeclaration) -> String {
    let quoted = |names: &[(String, crate::error::Location)]| {
        let names: Vec<String> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
        names.join(", ")
    };
    let mut lines: Vec<String> = declaration
        .columns
        .iter()
        .map(|column| match &column.kind {
            ColumnKind::Physical(data_type) => format!("  `{}` {}", column.name, sql_type::name(data_type)),
            ColumnKind::Metadata { data_type, .. } => {
                format!(
                    "  `{}` {} {}",
                    column.name,
                    sql_type::name(data_type),
                    extras(&column.kind)
                )
            }
            ColumnKind::Computed(_) => format!("  `{}` {}", column.name, extras(&column.kind)),
        })
        .collect();
    if let Some(watermark) = &declaration.watermark {
        lines.push(format!(
            "  WATERMARK FOR `{}` AS {}",
            watermark.column, watermark.expression
        ));
    }
    if !declaration.primary_key.is_empty() {
        lines.push(format!(
            "  PRIMARY KEY ({}) NOT ENFORCED",
            quoted(&declaration.primary_key)
        ));
    }
    let partitions = match declaration.partitioned_by.is_empty() {
        true => String::new(),
        false => format!("\nPARTITIONED BY ({})", quoted(&declaration.partitioned_by)),
    };
    let options: Vec<String> = declaration
        .options
        .iter()
        .map(|option| format!("  '{}' = '{}'", option.name, option.value.replace('\'', "''")))
        .collect();
    format!(
        "CREATE TABLE `{}` (\n{}\n){partitions} WITH (\n{}\n)\n",
        declaration.name,
        lines.join(",\n"),
        options.join(",\n")
    )
}
