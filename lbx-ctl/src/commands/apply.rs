//! `apply` and `export`: the configuration as a whole. The file goes to the agent as it is, so that line and
//! column of a mistake are those of the user's file.

use std::{io, path::Path};

use reqwest::Method;
use serde_json::Value;

use super::{Context, write};
use crate::{
    args::WriteFlags,
    client::Body,
    error::CliError,
    output::{self, Format},
};

/// Replaces the whole configuration by the file's.
pub async fn apply(context: &Context, file: &Path, flags: WriteFlags) -> Result<(), CliError> {
    let (shown, text) = if file == Path::new("-") {
        ("<stdin>".to_owned(), io::read_to_string(io::stdin()))
    } else {
        (file.display().to_string(), std::fs::read_to_string(file))
    };
    let text = text.map_err(|error| CliError::Usage(format!("cannot read {shown}: {error}")))?;
    let result = context.client.write(Method::PUT, &["config"], Body::Yaml(text), flags).await;
    let report = result.map_err(|error| match error {
        CliError::Refused { problem, .. } => CliError::Refused { problem, file: Some(shown) },
        other @ (CliError::Usage(_)
        | CliError::NotRunning(_)
        | CliError::NoPermission(_)
        | CliError::Unreachable { .. }
        | CliError::TimedOut(_)
        | CliError::ProbeFailed(_)
        | CliError::Local(_)) => other,
    })?;
    context
        .show(&report, |report| write::render(report, || "the configuration in force is the same".to_owned()))
}

/// Prints the whole configuration.
pub async fn export(context: &Context) -> Result<(), CliError> {
    let mut document: Value = context.client.get(&["config"]).await?;
    let config = document.get_mut("config").map(Value::take).unwrap_or_default();
    output::print(&match context.format {
        Format::Json => Format::Json.structured(&config)?.unwrap_or_default(),
        Format::Table | Format::Yaml => output::yaml(&config)?,
    })
}

#[cfg(test)]
mod tests {
    use lbx_common::api::Config;
    use serde_json::json;

    use super::*;

    #[test]
    fn exported_yaml_reads_back_as_the_same_configuration() {
        // Names that YAML would take for something else than text if they were not quoted.
        let names =
            ["yes", "null", "~", "0x1f", "1e3", "12:30", "- a", "a: b", "#x", "'", "\"", "é", "2026-01-01"];
        let vnet = |(index, name): (usize, &&str)| {
            json!({"name": name, "vni": index + 1, "tunnels": [
                {"name": name, "encap": "vxlan", "remote": "198.51.100.7", "inner_mac": "02:6c:62:78:00:02"}]})
        };
        let config: Config = serde_json::from_value(json!({
            "version": 1,
            "node": {"interfaces": [{"name": "eth0", "role": "both"}],
                     "tunnel_source": {"ipv4": "192.0.2.10"},
                     "hash_seed": "00112233445566778899001122334455"},
            "virtual_networks": names.iter().enumerate().map(vnet).collect::<Vec<_>>(),
            "monitors": [{"name": "tcp1", "interval": "1s 500ms", "timeout": "250ms"}],
            "pools": [{"name": "web", "monitor": "tcp1", "endpoints": [
                {"name": "a", "virtual_network": "yes", "address": "10.0.0.10", "port": 80, "weight": 0.07}]}],
            "services": [{"name": "web", "address": "203.0.113.80", "listen": ["tcp/80"], "pools": ["web"]}],
        }))
        .unwrap();
        let text = output::yaml(&serde_json::to_value(&config).unwrap()).unwrap();
        let back: Config = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(back, config, "{text}");
    }
}
