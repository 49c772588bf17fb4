//! Grafana's model of a dashboard, as far as these need it: rows of panels, template variables, no fixed data source.

use anyhow::Result;
use serde_json::{Value, json};

/// Grafana's grid is this wide.
const COLUMNS: u64 = 24;

/// Version of the model: Grafana 10 and later migrate it upwards by themselves.
const SCHEMA: u64 = 38;

/// Links and folders find them by it.
const TAG: &str = "flowprobe";

pub(super) struct Dashboard {
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// Whether its series have the labels of services and networks.
    pub(super) by_network: bool,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What it shows and how to read it, in sentences.
    pub(super) description: &'static str,
    pub(super) kind: Kind,
    /// Grafana's name of a unit.
    pub(super) unit: &'static str,
    pub(super) width: u64,
    pub(super) queries: Vec<Query>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines over time.
    Lines,
    /// Lines that add up.
    Stack,
    /// The last value, large.
    Number,
    /// The last values, one series a line; queries are columns, and legends their titles and units `title|unit`.
    Table,
}

pub(super) struct Query {
    pub(super) expression: String,
    pub(super) legend: &'static str,
}

/// An expression and its legend.
pub(super) fn query(expression: impl Into<String>, legend: &'static str) -> Query {
    Query { expression: expression.into(), legend }
}

/// A panel with lines, half as wide as the page.
pub(super) fn lines(
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: Vec<Query>,
) -> Panel {
    Panel { title, description, kind: Kind::Lines, unit, width: 12, queries }
}

impl Panel {
    pub(super) fn stacked(self) -> Self {
        Self { kind: Kind::Stack, ..self }
    }

    pub(super) fn number(self) -> Self {
        Self { kind: Kind::Number, width: 4, ..self }
    }

    pub(super) fn table(self) -> Self {
        Self { kind: Kind::Table, width: COLUMNS, ..self }
    }

    const fn height(&self) -> u64 {
        match self.kind {
            Kind::Lines | Kind::Stack => 8,
            Kind::Number => 4,
            Kind::Table => 12,
        }
    }

    fn json(&self, id: u64, x: u64, y: u64) -> Value {
        let mut out = json!({
            "id": id,
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height() },
            "targets": self.queries.iter().enumerate().map(|(at, query)| self.target(at, query)).collect::<Vec<_>>(),
        });
        let (kind, defaults, options) = match self.kind {
            Kind::Lines | Kind::Stack => (
                "timeseries",
                json!({ "unit": self.unit, "min": 0, "custom": self.drawing() }),
                json!({ "tooltip": { "mode": "multi", "sort": "desc" }, "legend": { "displayMode": "list", "placement": "bottom" } }),
            ),
            Kind::Number => (
                "stat",
                json!({ "unit": self.unit }),
                json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "colorMode": "none", "graphMode": "area" }),
            ),
            Kind::Table => (
                "table",
                json!({}),
                json!({ "sortBy": [{ "displayName": self.first_column(), "desc": true }] }),
            ),
        };
        out["type"] = json!(kind);
        out["fieldConfig"] = json!({ "defaults": defaults, "overrides": self.overrides() });
        out["options"] = options;
        if self.kind == Kind::Table {
            out["transformations"] = self.transformations();
        }
        out
    }

    fn drawing(&self) -> Value {
        match self.kind {
            Kind::Stack => json!({ "fillOpacity": 30, "stacking": { "mode": "normal" } }),
            _ => json!({ "fillOpacity": 0 }),
        }
    }

    fn target(&self, at: usize, query: &Query) -> Value {
        let mut out = json!({ "refId": letter(at), "datasource": source(), "expr": query.expression });
        if self.kind == Kind::Table {
            out["format"] = json!("table");
            out["instant"] = json!(true);
        } else {
            out["legendFormat"] = json!(query.legend);
        }
        out
    }

    fn columns(&self) -> impl Iterator<Item = (String, &'static str, &'static str)> {
        self.queries.iter().enumerate().map(|(at, query)| {
            let (title, unit) = query.legend.split_once('|').unwrap_or((query.legend, "short"));
            (format!("Value #{}", letter(at)), title, unit)
        })
    }

    fn first_column(&self) -> &'static str {
        self.columns().next().map_or("", |(_, title, _)| title)
    }

    fn overrides(&self) -> Value {
        if self.kind != Kind::Table {
            return json!([]);
        }
        let of = |(_, title, unit): (String, &str, &str)| {
            json!({
                "matcher": { "id": "byName", "options": title },
                "properties": [{ "id": "unit", "value": unit }],
            })
        };
        self.columns().map(of).collect()
    }

    /// All columns in one table, the time left out.
    fn transformations(&self) -> Value {
        let titles: serde_json::Map<String, Value> =
            self.columns().map(|(name, title, _)| (name, json!(title))).collect();
        json!([
            { "id": "merge", "options": {} },
            { "id": "organize", "options": { "excludeByName": { "Time": true }, "renameByName": titles } },
        ])
    }
}

impl Dashboard {
    #[cfg(test)]
    pub(super) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// The file.
    pub(super) fn text(&self) -> Result<String> {
        let mut panels = Vec::new();
        let (mut id, mut y) = (0, 0);
        for row in &self.rows {
            id += 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
            }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y) = (0, y + height);
                    height = 0;
                }
                id += 1;
                panels.push(panel.json(id, x, y));
                x += panel.width;
                height = height.max(panel.height());
            }
            y += height;
        }
        let dashboard = json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "editable": true,
            "graphTooltip": 1,
            "schemaVersion": SCHEMA,
            "version": 1,
            "refresh": "1m",
            "time": { "from": "now-6h", "to": "now" },
            "timezone": "browser",
            "annotations": { "list": [] },
            "links": [{
                "title": TAG, "type": "dashboards", "tags": [TAG], "asDropdown": true, "includeVars": true,
                "keepTime": true,
            }],
            "templating": { "list": self.variables() },
            "panels": panels,
        });
        Ok(serde_json::to_string_pretty(&dashboard)? + "\n")
    }

    fn variables(&self) -> Vec<Value> {
        let mut out = vec![
            json!({ "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" }),
            variable("job", "Job", "flowprobe_build_info"),
            variable("instance", "Instance", "flowprobe_build_info{job=~\"$job\"}"),
        ];
        if self.by_network {
            let series = "flowprobe_tcp_connections{job=~\"$job\",instance=~\"$instance\"}";
            for (name, label) in
                [("service", "Service"), ("prefix", "Prefix"), ("asn", "AS"), ("country", "Country")]
            {
                out.push(variable(name, label, series));
            }
        }
        out
    }
}

/// Values of a label; All is everything, series without the label included.
fn variable(name: &str, label: &str, series: &str) -> Value {
    let query = format!("label_values({series}, {name})");
    json!({
        "name": name, "label": label, "type": "query", "datasource": source(),
        "query": { "query": query, "refId": name }, "definition": query,
        "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// A, B, C …
fn letter(at: usize) -> String {
    char::from_u32('A' as u32 + at as u32).unwrap_or('Z').to_string()
}
