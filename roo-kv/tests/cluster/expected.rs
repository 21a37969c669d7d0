//! Nodes that are told how many they are.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expected_nodes_that_know_the_first_alone_found_one_cluster_with_it() {
    let listeners: Vec<TcpListener> = (0..3).map(|_| listen()).collect();
    let first = list(&[listeners[0].local_addr().unwrap()]);
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let mut stores = Vec::new();
    for (place, listener) in places.iter().zip(listeners) {
        stores.push(Store::start(Config { expect: 3, ..place.config(listener, first.clone()) }).await.unwrap());
        if stores.len() == 1 {
            // It does not found one alone, though its list is itself. Who greets it is counted.
            let waits = |status: &Status| matches!(&status.phase, Phase::Forming { waiting_for } if waiting_for.starts_with("more nodes: 1 of 3"));
            until(&stores[0], "waiting for others", waits).await;
        }
    }
    let cluster = Cluster { places, stores };
    cluster.settled().await;
    cluster.stop().await;
}
