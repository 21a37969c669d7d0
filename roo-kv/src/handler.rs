//! What a node answers to its peers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest,
};
use tokio::time::Instant;

use crate::id::{ClusterId, NodeId};
use crate::node::Node;
use crate::peer::{
    Answer, AppendAnswer, AppendForm, Ask, Envelope, GrantAnswer, Handler, Hello, HelloAnswer, LeaseAnswer, Messages,
    Refusal, SnapshotHead, StandingForm, StreamAnswer, TransferAnswer, VoteAsk, decode,
};
use crate::raft::{LogId, LogIdForm, Peer, Room, Types, Vote, VoteForm, announced};
use crate::runtime::blocking;
use crate::snapshot::Arrival;

const FORWARD_PATIENCE: Duration = Duration::from_secs(2);

/// A leader waits for a slow node no longer than this before it answers the question whether something is applied.
const APPLIED_PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Answers for a node.
pub(crate) struct Answering {
    node: Arc<Node>,
    arrival: Arrival,
}

impl Answering {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        let arrival = Arrival::new(Arc::clone(&node.shelf));
        Arc::new(Self { node, arrival })
    }

    async fn answer(&self, peer: NodeId, remote: IpAddr, envelope: Envelope) -> Result<Answer, Refusal> {
        match envelope.ask {
            Ask::Hello(hello) => return Ok(self.hello(peer, remote, &hello)),
            Ask::Grant { cluster, attempt, address } => return self.grant(peer, cluster, attempt, address).await,
            Ask::Join { node, address } => return self.join(envelope.cluster, node, address).await,
            // Whoever may know is asked. It makes no member of one that waits to be taken in.
            Ask::IsMember { .. } if self.node.identity.cluster().is_none() => return Err(in_no_cluster()),
            _ => self.admit(envelope.cluster).await?,
        }
        let raft = &self.node.raft;
        match envelope.ask {
            Ask::Vote(ask) => vote_answer(raft.vote(vote_request(ask)).await.map_err(unable)?),
            Ask::PreVote(ask) => vote_answer(raft.pre_vote(vote_request(ask)).await.map_err(unable)?),
            Ask::Append(form) => {
                let response = raft.append_entries(append_request(form).map_err(unable)?).await.map_err(unable)?;
                Ok(Answer::Append(append_answer(response)))
            }
            Ask::Transfer { from, to, last } => {
                let request = TransferLeaderRequest::new(Vote::from(from), to, last.map(LogId::from));
                let response = raft.handle_transfer_leader(request).await.map_err(unable)?;
                Ok(Answer::Transfer(transfer_answer(response)))
            }
            Ask::Propose(requests) => {
                let proposing = requests.into_iter().map(|request| self.node.propose_here(request));
                Ok(Answer::Propose(join_all(proposing).await))
            }
            Ask::ReadIndex { confirm } => Ok(Answer::Read(self.node.read_index_here(confirm).await)),
            Ask::SnapshotOffset { id } => Ok(Answer::SnapshotOffset { offset: self.arrival.offset(&id).await }),
            Ask::KeepAlive { lease } => Ok(Answer::Lease(self.node.lease_here(lease, true))),
            Ask::LeaseLeft { lease } => Ok(Answer::Lease(self.node.lease_here(lease, false))),
            Ask::Applied { revision, timeout_ms } => {
                let patience = Duration::from_millis(timeout_ms).min(APPLIED_PATIENCE_MAX);
                let mut progress = self.node.view.progress();
                let waiting = progress.wait_for(|progress| progress.revision >= revision);
                Ok(Answer::Applied(tokio::time::timeout(patience, waiting).await.is_ok_and(|applied| applied.is_ok())))
            }
            Ask::Room => Ok(Answer::Room(self.node.log.room() == Room::Enough)),
            Ask::Change(change) => Ok(Answer::Changed(self.node.change_here(change).await)),
            Ask::IsMember { node, passed_on } => self.is_member(node, passed_on).await,
            Ask::LastLog => Ok(Answer::LastLog(self.node.last_log().await)),
            Ask::Hello(_) | Ask::Grant { .. } | Ask::Join { .. } => Err(unable("it was answered before")),
        }
    }

    fn hello(&self, peer: NodeId, remote: IpAddr, hello: &Hello) -> Answer {
        let address = hello.advertise.clone().unwrap_or_else(|| SocketAddr::new(remote, hello.port).to_string());
        // Who it is was proved; what it says of itself need not be so.
        if hello.node == peer {
            self.node.meet(hello, &address);
        }
        Answer::Hello(HelloAnswer { hello: self.node.hello(), you_are_at: remote })
    }

    async fn grant(&self, peer: NodeId, cluster: ClusterId, attempt: u64, address: String) -> Result<Answer, Refusal> {
        let identity = Arc::clone(&self.node.identity);
        let granting = blocking(move || identity.grant(peer, cluster, attempt, &address));
        let granted = granting.await.map_err(unable)?;
        Ok(Answer::Grant(GrantAnswer { granted }))
    }

    async fn join(&self, from: Option<ClusterId>, joiner: NodeId, address: String) -> Result<Answer, Refusal> {
        let Some(own) = self.node.identity.cluster() else {
            return Err(in_no_cluster());
        };
        // One that was removed comes back with what it has; one of another cluster has something else.
        if from.is_some_and(|cluster| cluster != own) {
            return Err(Refusal::OtherCluster { cluster: Some(own) });
        }
        if self.node.leading().is_some() {
            if !self.node.members().contains_key(&joiner) {
                tracing::info!(node = %joiner, %address, "a node joins the cluster");
                let adding = self.node.raft.add_learner(joiner.0, Peer::at(address), false);
                adding.await.map_err(unable)?;
            }
            return Ok(Answer::Joined);
        }
        let Some((leader, hint)) = self.node.leader().filter(|(leader, _)| *leader != self.node.id()) else {
            return Err(unable("the cluster has no leader now"));
        };
        let ask = Ask::Join { node: joiner, address };
        self.node.links.ask(leader, hint.as_deref(), ask, FORWARD_PATIENCE).await.map_err(unable)
    }

    async fn is_member(&self, node: NodeId, passed_on: bool) -> Result<Answer, Refusal> {
        if self.node.leads_surely() {
            return Ok(Answer::IsMember(self.node.members().contains_key(&node)));
        }
        let Some((leader, hint)) = self.node.leader().filter(|(leader, _)| !passed_on && *leader != self.node.id())
        else {
            return Err(unable("it does not lead the cluster"));
        };
        let ask = Ask::IsMember { node, passed_on: true };
        self.node.links.ask(leader, hint.as_deref(), ask, FORWARD_PATIENCE).await.map_err(unable)
    }

    /// Lets only messages of the own cluster through.
    async fn admit(&self, cluster: Option<ClusterId>) -> Result<(), Refusal> {
        let own = self.node.identity.cluster();
        let Some(cluster) = cluster else { return Err(Refusal::OtherCluster { cluster: own }) };
        if own == Some(cluster) {
            return Ok(());
        }
        let identity = Arc::clone(&self.node.identity);
        match blocking(move || identity.admit(cluster)).await.map_err(unable)? {
            true => Ok(()),
            false => Err(Refusal::OtherCluster { cluster: own }),
        }
    }

    async fn receive_snapshot(&self, mut chunks: Messages<Bytes>) -> io::Result<Answer> {
        let head = chunks.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        let SnapshotHead { vote, id, offset } = decode(&head)?;
        // Verified before openraft hears of it: a damaged transfer must not stop the node.
        let file = self.arrival.take(id, offset, chunks).await?;
        let opened = blocking(move || announced(&file.header()?, file)).await?;
        let installed = self.node.raft.install_full_snapshot(vote.into(), opened).await.map_err(io::Error::other)?;
        Ok(Answer::Snapshot { vote: VoteForm::from(&installed.vote) })
    }
}

impl Handler for Answering {
    async fn call(&self, peer: NodeId, remote: IpAddr, envelope: Envelope) -> Answer {
        self.node.book.heard(peer);
        self.answer(peer, remote, envelope).await.unwrap_or_else(Answer::Refused)
    }

    async fn append(
        &self,
        cluster: Option<ClusterId>,
        appends: Messages<AppendForm>,
    ) -> Result<Messages<StreamAnswer>, Refusal> {
        self.admit(cluster).await?;
        // A fault ends the stream; what was stored before it stays answered.
        let requests = appends
            .map(|form| append_request(form?))
            .take_while(|request| futures_util::future::ready(request.is_ok()))
            .filter_map(|request| futures_util::future::ready(request.ok()));
        let answers = self.node.raft.stream_append(requests).map(|answer| match answer {
            Ok(Ok(last)) => Ok(StreamAnswer::Stored(last.as_ref().map(LogIdForm::from))),
            Ok(Err(StreamAppendError::Conflict(at))) => Ok(StreamAnswer::Conflict(LogIdForm::from(&at))),
            Ok(Err(StreamAppendError::HigherVote(vote))) => Ok(StreamAnswer::HigherVote(VoteForm::from(&vote))),
            Err(fatal) => Err(io::Error::other(fatal.to_string())),
        });
        Ok(answers.boxed())
    }

    async fn snapshot(&self, cluster: Option<ClusterId>, chunks: Messages<Bytes>) -> Answer {
        if let Err(refusal) = self.admit(cluster).await {
            return Answer::Refused(refusal);
        }
        self.receive_snapshot(chunks).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot take a snapshot from the leader");
            Answer::Refused(unable(error))
        })
    }

    fn came(&self, peer: NodeId) {
        self.node.reached_by(peer);
    }

    fn left(&self, peer: NodeId) {
        self.node.left_by(peer);
    }
}

impl Node {
    /// How this node introduces itself.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            node: self.id(),
            standing: StandingForm::from(&self.identity.standing()),
            advertise: self.own_address.certain(),
            port: self.own_address.port(),
            former: self.identity.former(),
            settled: self.is_settled(),
            stored: self.last_stored(),
        }
    }

    /// How long a lease lives, from now on if it is to be renewed. Only a leader that a quorum follows knows.
    pub(crate) fn lease_here(&self, lease: crate::LeaseId, renew: bool) -> LeaseAnswer {
        let leads = self.leading().is_some_and(|term| self.leases.leads(term));
        if !leads || !self.leads_surely() {
            return LeaseAnswer::NotLeader;
        }
        let now = Instant::now();
        let found = if renew { self.leases.keep_alive(lease, now) } else { self.leases.left(lease, now) };
        match found {
            None => LeaseAnswer::NotLeader,
            Some(None) => LeaseAnswer::Ended,
            Some(Some((ttl, left))) => {
                let [ttl_ms, left_ms] = [ttl, left].map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                LeaseAnswer::Lives { ttl_ms, left_ms }
            }
        }
    }
}

fn vote_request(ask: VoteAsk) -> VoteRequest<Types> {
    VoteRequest { vote: ask.vote.into(), last_log_id: ask.last.map(LogId::from), leadership_transfer: ask.transfer }
}

fn vote_answer(response: openraft::raft::VoteResponse<Types>) -> Result<Answer, Refusal> {
    Ok(Answer::Vote {
        vote: VoteForm::from(&response.vote),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(LogIdForm::from),
    })
}

fn append_request(form: AppendForm) -> io::Result<AppendEntriesRequest<Types>> {
    let entries = form.entries.into_iter().map(|entry| entry.into_entry().map_err(io::Error::other));
    Ok(AppendEntriesRequest {
        vote: form.vote.into(),
        prev_log_id: form.previous.map(LogId::from),
        entries: entries.collect::<io::Result<_>>()?,
        leader_commit: form.committed.map(LogId::from),
    })
}

fn append_answer(response: AppendEntriesResponse<Types>) -> AppendAnswer {
    match response {
        AppendEntriesResponse::Success => AppendAnswer::Success,
        AppendEntriesResponse::PartialSuccess(last) => AppendAnswer::Partial(last.as_ref().map(LogIdForm::from)),
        AppendEntriesResponse::Conflict => AppendAnswer::Conflict,
        AppendEntriesResponse::HigherVote(vote) => AppendAnswer::HigherVote(VoteForm::from(&vote)),
    }
}

fn transfer_answer(response: Result<(), TransferLeaderError<Types>>) -> TransferAnswer {
    let log_id = |id: Option<LogId>| id.as_ref().map(LogIdForm::from);
    match response {
        Ok(()) => TransferAnswer::Accepted,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            TransferAnswer::VoteChanged { expected: VoteForm::from(&expected), actual: VoteForm::from(&actual) }
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            TransferAnswer::LogNotFlushed { expected: log_id(expected), actual: log_id(actual) }
        }
    }
}

fn in_no_cluster() -> Refusal {
    unable("it belongs to no cluster itself")
}

fn unable(reason: impl ToString) -> Refusal {
    Refusal::Unable { reason: reason.to_string() }
}
