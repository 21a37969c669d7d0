//! What a node answers to its peers.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest,
};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::id::{ClusterId, NodeId};
use crate::node::Node;
use crate::peer::{
    Answer, AppendAnswer, AppendForm, Ask, Envelope, GrantAnswer, Handler, Hello, HelloAnswer, Messages, Refusal,
    StandingForm, StreamAnswer, TransferAnswer, VoteAsk, decode,
};
use crate::raft::{LogId, LogIdForm, Peer, Types, Vote, VoteForm, announced};
use crate::snapshot::SnapshotFile;

const FORWARD_PATIENCE: Duration = Duration::from_secs(2);

/// A leader waits for a slow node no longer than this before it answers the question whether something is applied.
const APPLIED_PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Answers for a node.
pub(crate) struct Answering {
    node: Arc<Node>,
    /// Other clusters that were met, each to be logged once.
    others: Mutex<HashSet<ClusterId>>,
}

impl Answering {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new(Self { node, others: Mutex::default() })
    }

    async fn answer(&self, peer: NodeId, remote: IpAddr, envelope: Envelope) -> Result<Answer, Refusal> {
        match envelope.ask {
            Ask::Hello(hello) => return Ok(self.hello(peer, remote, &hello)),
            Ask::Grant { cluster, attempt, address } => return self.grant(peer, cluster, attempt, address).await,
            Ask::Join { node, address } => return self.join(node, address).await,
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
            Ask::Propose(request) => Ok(Answer::Propose(self.node.propose_here(request).await)),
            Ask::ReadIndex { confirm } => Ok(Answer::Read(self.node.read_index_here(confirm).await)),
            Ask::KeepAlive { lease } => Ok(Answer::KeepAlive(self.node.keep_alive_here(lease))),
            Ask::Applied { revision, timeout_ms } => {
                let patience = Duration::from_millis(timeout_ms).min(APPLIED_PATIENCE_MAX);
                let mut progress = self.node.view.progress();
                let waiting = progress.wait_for(|progress| progress.revision >= revision);
                Ok(Answer::Applied(tokio::time::timeout(patience, waiting).await.is_ok_and(|applied| applied.is_ok())))
            }
            Ask::Hello(_) | Ask::Grant { .. } | Ask::Join { .. } => Err(unable("it was answered before")),
        }
    }

    fn hello(&self, peer: NodeId, remote: IpAddr, hello: &Hello) -> Answer {
        let address = hello.advertise.clone().unwrap_or_else(|| SocketAddr::new(remote, hello.port).to_string());
        if peer != self.node.id() {
            self.node.book.learn(peer, &address);
            self.compare_clusters(&hello.standing, &address);
        }
        Answer::Hello(HelloAnswer { hello: self.node.hello(), you_are_at: remote })
    }

    fn compare_clusters(&self, theirs: &StandingForm, address: &str) {
        let (Some(own), StandingForm::Member { cluster }) = (self.node.identity.cluster(), theirs) else { return };
        if own != *cluster && self.others.lock().unwrap_or_else(PoisonError::into_inner).insert(*cluster) {
            tracing::error!(
                %address, other = %cluster, %own,
                "a peer with the same secret belongs to another cluster; give the clusters different secrets or \
                 addresses, or stop that node, empty its data directory and start it again to have it join this one"
            );
        }
    }

    async fn grant(&self, peer: NodeId, cluster: ClusterId, attempt: u64, address: String) -> Result<Answer, Refusal> {
        let identity = Arc::clone(&self.node.identity);
        let granting = tokio::task::spawn_blocking(move || identity.grant(peer, cluster, attempt, &address));
        let granted = granting.await.map_err(unable)?.map_err(unable)?;
        Ok(Answer::Grant(GrantAnswer { granted }))
    }

    async fn join(&self, joiner: NodeId, address: String) -> Result<Answer, Refusal> {
        if self.node.identity.cluster().is_none() {
            return Err(unable("it belongs to no cluster itself"));
        }
        if self.node.leading().is_some() {
            if !self.node.members().contains_key(&joiner) {
                tracing::info!(node = %joiner, %address, "a node joins the cluster");
                let adding = self.node.raft.add_learner(joiner.0, Peer { address }, false);
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

    /// Lets only messages of the own cluster through.
    async fn admit(&self, cluster: Option<ClusterId>) -> Result<(), Refusal> {
        let own = self.node.identity.cluster();
        let Some(cluster) = cluster else { return Err(Refusal::OtherCluster { cluster: own }) };
        if own == Some(cluster) {
            return Ok(());
        }
        let identity = Arc::clone(&self.node.identity);
        let admitting = tokio::task::spawn_blocking(move || identity.admit(cluster));
        match admitting.await.map_err(unable)?.map_err(unable)? {
            true => Ok(()),
            false => Err(Refusal::OtherCluster { cluster: own }),
        }
    }

    async fn receive_snapshot(&self, mut chunks: Messages<Bytes>) -> io::Result<Answer> {
        let head = chunks.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        let vote: VoteForm = decode(&head)?;
        let path = self.node.shelf.unfinished_path();
        let received = async {
            let mut file = tokio::fs::File::create(&path).await?;
            while let Some(chunk) = chunks.next().await {
                file.write_all(&chunk?).await?;
            }
            file.flush().await?;
            file.sync_all().await?;
            let opened = path.clone();
            let opening = tokio::task::spawn_blocking(move || {
                let file = SnapshotFile::open(&opened)?;
                // Before openraft hears of it: a damaged transfer must not stop the node.
                let header = file.verify()?;
                announced(&header, file)
            });
            opening.await.map_err(io::Error::other)?
        };
        let installed = match received.await {
            Ok(snapshot) => self.node.raft.install_full_snapshot(vote.into(), snapshot).await.map_err(io::Error::other),
            Err(error) => Err(error),
        };
        // Gone already if it was put on the shelf.
        drop(tokio::fs::remove_file(&path).await);
        Ok(Answer::Snapshot { vote: VoteForm::from(&installed?.vote) })
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
}

impl Node {
    /// How this node introduces itself.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            node: self.id(),
            standing: StandingForm::from(&self.identity.standing()),
            advertise: self.own_address.certain(),
            port: self.own_address.port(),
        }
    }

    /// Keeps a lease alive, if this node surely leads.
    pub(crate) fn keep_alive_here(&self, lease: crate::LeaseId) -> Option<bool> {
        let term = self.leading()?;
        (self.leads_surely() && self.leases.leads(term)).then(|| self.leases.keep_alive(lease, Instant::now()))?
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

fn unable(reason: impl ToString) -> Refusal {
    Refusal::Unable { reason: reason.to_string() }
}
