use super::*;

fn listed(id: &str, state: &str, desired: &str, addresses: &[(&str, &str)]) -> Listed {
    let attachment = |(network, address): &(&str, &str)| {
        serde_json::json!({
            "Network": { "ID": format!("id-{network}"), "Spec": { "Name": network, "Ingress": *network == "ingress" } },
            "Addresses": [address],
        })
    };
    let attachments: Vec<_> = addresses.iter().map(attachment).collect();
    serde_json::from_value(serde_json::json!({
        "ID": id, "ServiceID": "s", "Slot": 1, "NodeID": "n", "DesiredState": desired,
        "Status": { "State": state, "Timestamp": "2026-11-22T03:00:00Z" }, "NetworksAttachments": attachments,
    }))
    .expect("a task")
}

const NETS: [(&str, &str); 2] = [("ingress", "10.0.0.9/24"), ("forenet", "10.0.1.9/24")];

fn states(tasks: &Tasks) -> Vec<(&str, TaskState)> {
    tasks.known.iter().map(|(id, known)| (id.as_str(), known.state)).collect()
}

#[test]
fn a_task_counts_from_running_until_it_has_ended() {
    use TaskState::{Running, Stopping};
    let mut tasks = Tasks::default();
    let at = |state: &str, desired: &str| listed("a", state, desired, &NETS);
    tasks.take(vec![at("starting", "running")], Vec::new());
    assert!(states(&tasks).is_empty() && tasks.is_moving(), "Swarm holds it there until it is healthy");
    tasks.take(vec![at("running", "running")], Vec::new());
    assert_eq!(states(&tasks), [("a", Running)]);
    assert!(!tasks.is_moving());
    // It is listed no longer among those that shall run.
    tasks.take(Vec::new(), vec![at("running", "shutdown")]);
    assert_eq!(states(&tasks), [("a", Stopping)]);
    assert!(tasks.is_moving());
    tasks.take(Vec::new(), vec![at("shutdown", "shutdown")]);
    assert!(states(&tasks).is_empty() && !tasks.is_moving());

    // One that is gone without a trace, and one that failed before anybody wanted it to end.
    tasks.take(vec![at("running", "running")], Vec::new());
    tasks.take(Vec::new(), Vec::new());
    assert!(states(&tasks).is_empty());
    tasks.take(vec![at("running", "running")], Vec::new());
    tasks.take(vec![at("failed", "running")], Vec::new());
    assert!(states(&tasks).is_empty());
    // What nobody saw running and is to stop is nobody's.
    tasks.take(Vec::new(), vec![at("starting", "shutdown")]);
    assert!(states(&tasks).is_empty());
}

fn placed(addresses: &[(&str, &str)], asked: Option<&str>) -> (Vec<String>, Vec<Problem>) {
    let mut tasks = Tasks::default();
    tasks.take(vec![listed("a", "running", "running", addresses)], Vec::new());
    let route: crate::LabelRoute = crate::settle(vec![crate::Description {
        name: "web".to_owned(),
        service_labels: [("roo.host", "a.example"), ("roo.port", "80")]
            .map(|(l, v)| (l.to_owned(), v.to_owned()))
            .into(),
        ..crate::Description::default()
    }])
    .0[0]
        .routes[0]
        .clone();
    let mut services = vec![Service {
        id: "s".to_owned(),
        name: "web".to_owned(),
        routes: vec![route],
        network: asked.map(str::to_owned),
        port: Some(80),
        tasks: Vec::new(),
    }];
    let nets = ["10.0.0.0/24", "10.0.1.0/24", "10.0.3.0/24"].map(|net| net.parse().expect("a network"));
    let problems = tasks.place(&mut services, &nets);
    (services[0].tasks.iter().map(|task| task.address.to_string()).collect(), problems)
}

#[test]
fn a_task_is_reached_in_a_network_that_is_shared() {
    let several = [NETS[0], ("shop_back", "10.0.2.9/24"), NETS[1], ("shop_front", "10.0.3.9/24")];
    assert_eq!(placed(&several, None), (vec!["10.0.1.9".to_owned()], Vec::new()));
    assert_eq!(placed(&several, Some("shop_front")).0, ["10.0.3.9"]);
    assert_eq!(placed(&several, Some("front")).0, ["10.0.3.9"], "as the stack's file calls it");

    for (addresses, asked, said) in [
        (&several[1..2], None, "shares no network with Roo (it is in shop_back)"),
        (&several[..1], None, "(it is in none)"),
        (&several[..], Some("back"), "is 'back', which Roo is not in"),
        (&several[..], Some("ack"), "is 'ack', which the service is not in (it is in shop_back, forenet, shop_front)"),
    ] {
        let (reached, problems) = placed(addresses, asked);
        assert!(reached.is_empty());
        let [problem] = &problems[..] else { panic!("one problem expected: {problems:?}") };
        assert_eq!((problem.service.as_str(), problem.label.as_str()), ("web", "roo.network"));
        assert!(problem.message.contains(said), "{}", problem.message);
    }
}
