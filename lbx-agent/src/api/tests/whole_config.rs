//! `/v1/config`: the configuration as a whole.

use super::*;

fn changed() -> Config {
    let mut changed = config();
    changed.virtual_networks[1].vni = 99;
    changed.pools[0].endpoints.remove(1);
    changed.monitors.push(serde_json::from_value(json!({"name": "tcp2"})).unwrap());
    changed.limits.listeners = 5;
    changed
}

const EXPECTED: [(ChangeAction, &str, &str); 4] = [
    (ChangeAction::Changed, "limits", ""),
    (ChangeAction::Changed, "virtual_networks", "west"),
    (ChangeAction::Created, "monitors", "tcp2"),
    (ChangeAction::Deleted, "endpoints", "web/b"),
];

#[tokio::test]
async fn it_is_read_with_its_revision() {
    let server = Server::start();
    let answer = server.request(Method::GET, "/v1/config").send().await.unwrap();
    assert_eq!(answer.headers()["etag"], "\"7\"");
    let document: ConfigDocument = answer.json().await.unwrap();
    assert_eq!(document, ConfigDocument { revision: 7, config: config() });
}

#[tokio::test]
async fn it_is_replaced_and_the_answer_names_what_changed() {
    let server = Server::start();
    let report = server.write(Method::PUT, "/v1/config", json!(changed())).await;
    assert_eq!((report.revision, report.dry_run), (8, false));
    assert_eq!(names(&report.changes), EXPECTED);
    assert_eq!(server.config(), changed());
}

#[tokio::test]
async fn a_dry_run_answers_the_same_and_changes_nothing() {
    let server = Server::start();
    let report = server.write(Method::PUT, "/v1/config?dry_run=true", json!(changed())).await;
    assert_eq!((report.revision, report.dry_run), (7, true));
    assert_eq!(names(&report.changes), EXPECTED);
    assert_eq!(server.config(), config());

    let mut wrong = changed();
    wrong.virtual_networks[0].vni = 0;
    let request = server.request(Method::PUT, "/v1/config?dry_run=true").json(&wrong);
    assert_eq!(server.refused(request).await.mistakes[0].path, "virtual_networks[0].vni");

    let misspelt = server.request(Method::PUT, "/v1/config?dryrun=true").json(&changed());
    let problem = server.refused(misspelt).await;
    assert!(problem.status == 400 && problem.detail.contains("dry_run"), "{problem:?}");
    assert_eq!(server.config(), config());
}

#[tokio::test]
async fn a_new_order_alone_is_reported_as_such() {
    let server = Server::start();
    let mut reordered = config();
    reordered.virtual_networks.reverse();
    let report = server.write(Method::PUT, "/v1/config", json!(reordered)).await;
    assert_eq!(names(&report.changes), [(ChangeAction::Changed, "virtual_networks", "")]);
}

#[tokio::test]
async fn mistakes_in_yaml_come_with_their_line() {
    let server = Server::start();
    let put = |text: String| {
        server.request(Method::PUT, "/v1/config").header("content-type", "application/yaml").body(text)
    };
    let mut wrong = config();
    wrong.virtual_networks[0].vni = 0;
    wrong.virtual_networks[1].vni = 0;
    let problem = server.refused(put(serde_json::to_string(&wrong).unwrap())).await;
    assert!(problem.detail.contains("2 mistakes"), "{}", problem.detail);
    let places: Vec<_> = problem.mistakes.iter().map(|m| (m.path.as_str(), m.line)).collect();
    assert_eq!(places, [("virtual_networks[0].vni", Some(3)), ("virtual_networks[1].vni", Some(3))]);

    let problem = server.refused(put("{".to_owned())).await;
    assert_eq!((problem.status, problem.mistakes.len()), (422, 1));

    let answer = put(serde_json::to_string(&changed()).unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(server.config(), changed());
}

#[tokio::test]
async fn a_large_configuration_is_taken() {
    let server = Server::start();
    let mut large = config();
    let endpoint = large.pools[0].endpoints[0].clone();
    for number in 0..20_000 {
        let mut endpoint = endpoint.clone();
        endpoint.name = format!("endpoint-{number}");
        large.pools[0].endpoints.push(endpoint);
    }
    let report = server.write(Method::PUT, "/v1/config", json!(large)).await;
    assert_eq!(report.changes.len(), 20_000);
}

#[tokio::test]
async fn a_configuration_that_belongs_to_a_file_is_read_only() {
    let server = Server::start();
    server.agent.with(|state| state.read_only = true);
    let problem = server.refused(server.request(Method::DELETE, "/v1/services/web")).await;
    assert_eq!((problem.kind.as_str(), problem.status), ("read_only", 403));
    assert!(problem.detail.contains("/etc/lbx/lbx.yaml"), "{}", problem.detail);
}
