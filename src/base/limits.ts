// Every bound of the product, with its unit. A queue, batch, cache or retry without a line here does not exist.

/** Bytes of one record batch as a client may send it, records and framing together. */
export const BATCH_BYTES_MAX = 4 * 1024 * 1024 - 64 * 1024;
/** Records of one batch. */
export const BATCH_RECORDS_MAX = 65_536;
/** Acknowledgements of one answer of a PublishStream. Mostly one says it all; each may carry an error of its own. */
export const FRAME_ACKS_MAX = 1_024;
/** Batches of one PublishStream frame. */
export const FRAME_BATCHES_MAX = 1_024;
/** Bytes of one gRPC request; the default limit of every stock client for a response as well. */
export const GRPC_MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** Bytes of one request, apart from those that carry records, which GRPC_MESSAGE_BYTES_MAX bounds, and CommitOffsets. */
export const REQUEST_BYTES_MAX = 64 * 1024;
export const COMMIT_BYTES_MAX = 1024 * 1024;
/** Values of one request, at all levels: fields, known or not, repeated or not, and elements of packed ones. */
export const REQUEST_VALUES_MAX = 10_000;
/** Fields of one hot message beyond its repeated ones: those that there are, and some for later releases. */
export const MESSAGE_FIELDS_MAX = 64;
/** Bytes of a name on the wire; more than any legal one has. */
export const NAME_BYTES_MAX = 1_024;
/** Characters of an error's message, and of each of its details. */
export const ERROR_TEXT_LENGTH_MAX = 512;
/** Fields of a record batch that are not records: there are none yet. */
export const BATCH_FIELDS_MAX = 64;
/** Milliseconds of one turn of the event loop for starting calls of clients, and for their long ones, all together. */
export const CALLS_SLICE_MS = 8;
/** Calls that wait for such a slice. */
export const CALLS_WAITING_MAX = 20_000;
/** Bytes of one Fetch answer unless the client asks for less. */
export const FETCH_BYTES_DEFAULT = 1024 * 1024;
export const FETCH_BYTES_MAX = 4 * 1024 * 1024 - 64 * 1024;
export const FETCH_WAIT_MS_MAX = 30_000;
/** Batches of one partition in a Fetch answer, and bytes that each counts for beyond its records. */
export const FETCH_BATCHES_MAX = 4_096;
export const FETCH_BATCH_OVERHEAD_BYTES = 32;
/** Bytes that the error of a partition counts for. */
export const FETCH_ERROR_BYTES = 1_024;
/** Rows, one per subscription and partition, of one page of ListSubscriptions. */
export const SUBSCRIPTION_ROWS_MAX = 10_000;
/** Topics of one page of ListTopics. */
export const TOPICS_PER_PAGE_MAX = 1_000;
/** Groups that one node is asked about at a time; fewer when records must be read for the answer. */
export const OFFSETS_GROUPS_MAX = 64;
export const OFFSETS_GROUPS_BY_TIME_MAX = 4;
/** Positions of one Fetch, partitions of one CommitOffsets or GetOffsets. */
export const REQUEST_PARTITIONS_MAX = 1_024;
/** Characters of a topic, subscription or vhost name: `^[A-Za-z0-9._-]{1,200}$` (the default vhost "/" aside). */
export const NAME_LENGTH_MAX = 200;
export const PARTITIONS_PER_TOPIC_MAX = 1_000;
export const REPLICAS_MAX = 7;
/** Bytes that a group may have proposed and not yet committed (research/raft point 28). */
export const UNCOMMITTED_BYTES_MAX = 32 * 1024 * 1024;
/** Entries that a group may have proposed and not yet committed. */
export const UNCOMMITTED_ENTRIES_MAX = 65_536;
/** Proposals of one group that one round of a turn hands to its core; the others wait for the next round. */
export const PROPOSALS_PER_ROUND_MAX = 1_024;
/** Append messages, and their bytes, in flight to one follower of one group. */
export const INFLIGHT_MESSAGES_MAX = 256;
export const INFLIGHT_BYTES_MAX = 8 * 1024 * 1024;
/** Groups for which one node stands for election at one time; whoever has no place yet waits for one. */
export const CAMPAIGNS_MAX = 64;
/** Payload bytes of one append message; a larger single entry travels alone. */
export const APPEND_BYTES_MAX = 1024 * 1024;
/** Bytes waiting in user space for one peer connection before it counts as not draining. */
export const PEER_SEND_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes of one frame between nodes. */
export const PEER_FRAME_BYTES_MAX = 16 * 1024 * 1024;
/** Forwarded requests that wait for their answer, per peer. */
export const FORWARDED_REQUESTS_MAX = 65_536;
/** Entries of one read of the log: however small they are, decoding them takes a few milliseconds. */
export const LOG_READ_ENTRIES_MAX = 4_096;
/** Requests that wait for a leader on one node, and their payload bytes. */
export const WAITING_MAX = 100_000;
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** Bytes of one write to the segment log, and entries beyond which no further group is added to it. */
export const LOG_WRITE_BYTES_MAX = 16 * 1024 * 1024;
export const LOG_WRITE_ENTRIES_MAX = 4_096;
/** What an entry counts for beyond its payload: on the way to a follower, and in memory. */
export const ENTRY_FRAME_BYTES = 64;
export const ENTRY_MEMORY_BYTES = 256;
export const SEGMENT_BYTES_DEFAULT = 64 * 1024 * 1024;
/** Bytes of recent entries that one node keeps in memory for followers and consumers at the tail. */
export const TAIL_CACHE_BYTES_MAX = 64 * 1024 * 1024;
/** Slabs that hold what the caches do and what is under way, and all of them until the next full collection. */
export const PAYLOAD_SLAB_BYTES = 1024 * 1024;
export const PAYLOAD_BYTES_MAX = 320 * 1024 * 1024;
/** Producers that one stream remembers for deduplication; the one idle for longest goes first. */
export const PRODUCERS_PER_STREAM_MAX = 4_096;
/** Cursor subscriptions of one stream. */
export const CURSORS_PER_STREAM_MAX = 10_000;
/** Characters of the metadata of one committed offset. */
export const COMMIT_METADATA_LENGTH_MAX = 4_096;
/** Rows of the sparse offset index of one stream; at the bound every second row goes and the stride doubles. */
export const OFFSET_INDEX_ROWS_MAX = 4_096;
/** Distinct memberships, and distinct ids of this node, that its groups share in memory. */
export const SHARED_MAX = 4_096;
/** Replicas opened at one time on one node. */
export const OPENS_MAX = 256;
/** Leaderships that one node gives away in one round of its upkeep, or has on the way when it stops. */
export const TRANSFERS_MAX = 256;
/** Damaged replicas of which one node tells the others why. */
export const DAMAGES_TOLD_MAX = 64;
/** Groups of one notice about who leads them. */
export const NOTICE_GROUPS_MAX = 65_536;
/** Checkpoints kept of one group; at the bound every second one between the oldest and the newest goes. */
export const CHECKPOINTS_PER_GROUP_MAX = 32;
/** Bytes of checkpoints that one write to the store carries. */
export const CHECKPOINT_WRITE_BYTES_MAX = 4 * 1024 * 1024;
/** Topics of a cluster. */
export const TOPICS_MAX = 100_000;
/** Characters of each text of a node's registration: endpoints, labels, version, store id; and of the cluster id. */
export const NODE_TEXT_LENGTH_MAX = 512;
/** Replicas that one node may have renewed by one command. */
export const RENEWALS_PER_COMMAND_MAX = 4_096;
/** Groups of which one node brings one other node up to date at a time, beside the catalog. */
export const RECOVERY_GROUPS_MAX = 4;
/** Bytes of one read for a node that lags, or of one chunk of a snapshot; a larger single entry travels alone. */
export const RECOVERY_PIECE_BYTES = 1024 * 1024;
/** Bytes read for one node that lags and not yet confirmed by it; of all such nodes together. */
export const RECOVERY_TARGET_BYTES_MAX = 16 * 1024 * 1024;
export const RECOVERY_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes of a checkpoint as it travels; machines keep theirs to a few hundred KB. */
export const SNAPSHOT_BYTES_MAX = 256 * 1024 * 1024;
/** Checkpoints in memory for sending, at one time and one node; to one other node one at a time. */
export const SNAPSHOTS_SENDING_MAX = 2;
/** Checkpoints that one node is receiving, and bytes of them together. */
export const SNAPSHOTS_RECEIVING_MAX = 64;
export const SNAPSHOTS_RECEIVING_BYTES_MAX = SNAPSHOT_BYTES_MAX;
/** The highest priority of a message; 0 is the lowest, and what has none. */
export const PRIORITY_MAX = 31;
/** Milliseconds that a message may be delayed, and that it may live: a year. */
export const DELAY_MS_MAX = 366 * 86_400_000;
/** Milliseconds of one lease: twelve hours. */
export const LEASE_MS_MAX = 43_200_000;
/** Messages that a consumer may have room for. */
export const CONSUMER_CREDIT_MAX = 65_536;
/** Times that a consumer says to one group how much room it has before the group has answered: what it says last replaces the rest. */
export const GRANTS_INFLIGHT_MAX = 8;
/** Consumers of one work subscription, and work subscriptions of one stream. */
export const CONSUMERS_PER_SUBSCRIPTION_MAX = 10_000;
export const WORKS_PER_STREAM_MAX = 256;
/** Operations on work subscriptions that one entry of the log carries. */
export const WORK_OPERATIONS_MAX = 16_384;
/** Messages that wait in a work subscription, beyond which no more of its backlog is fed to it. */
export const FED_READY_MAX = 65_536;
/** Records, and about so many bytes of the batches they lie in, that one step of feeding takes. */
export const FEED_RECORDS_MAX = 4_096;
export const FEED_BYTES_MAX = 1024 * 1024;
/** Steps of feeding of one node at one time. */
export const FEEDS_MAX = 8;
/** Runs of facts of the newest batches that a stream keeps for subscriptions which are being fed, to be up with it at some time. */
export const FEED_TAIL_RUNS_MAX = 8_192;
/** Runs of messages that the answer to one entry names, as they were not the consumer's who settled them with others that were. */
export const LOST_RUNS_MAX = 4_096;
/** Producers of exchanges that one stream remembers, and batches of each that it can tell a retry of. */
export const SPARSE_PRODUCERS_PER_STREAM_MAX = 4_096;
export const SPARSE_SEQUENCES_MAX = 256;
/** Transactions that hold messages of one work subscription. */
export const HOLDERS_PER_SUBSCRIPTION_MAX = 10_000;
/** Runs of transactions of which one place knows that they are over: from so many on it asks which are not, and with so many it takes no more. */
export const TRANSACTION_MARKS_KEPT = 1_024;
export const TRANSACTION_MARKS_MAX = 65_536;
/** Transactions of one vhost that are not over, and bytes of their records. */
export const TRANSACTIONS_PER_VHOST_MAX = 10_000;
export const TRANSACTIONS_BYTES_MAX = 1024 * 1024 * 1024;
/** Publishes and settlements of one transaction, and queues and partitions that its publishes may go to. */
export const TRANSACTION_PARTS_MAX = 1_024;
export const TRANSACTION_TARGETS_MAX = 1_024;
/** Characters of the name that a caller gives a transaction. */
export const TRANSACTION_NAME_LENGTH_MAX = 128;
/** Milliseconds that a prepared transaction may wait for its verdict: a day. */
export const TRANSACTION_TIMEOUT_MS_MAX = 86_400_000;
/** Transactions that one node has under way, and bytes that they publish; and those that it finishes for others at one time. */
export const TRANSACTIONS_PER_NODE_MAX = 4_096;
export const TRANSACTIONS_PER_NODE_BYTES_MAX = 128 * 1024 * 1024;
export const TRANSACTION_JOBS_MAX = 64;
/** Transactions of one page of ListTransactions. */
export const TRANSACTIONS_PER_PAGE_MAX = 1_000;
/** Runs of records, and their bytes, that one entry stores anew. */
export const RELOCATED_RUNS_MAX = 512;
export const RELOCATED_BYTES_MAX = 1024 * 1024;
/** Bytes of settled records that a message which stays may hold back. */
export const DEAD_BYTES_MAX = 48 * 1024 * 1024;
/** Consumer groups of one topic, and members of one group. */
export const GROUPS_PER_TOPIC_MAX = 1_000;
export const MEMBERS_PER_GROUP_MAX = 1_000;
/** Vhosts, exchanges, policies and schedules of a cluster, of each kind; and bindings. */
export const DECLARATIONS_MAX = 100_000;
export const BINDINGS_MAX = 1_000_000;
/** Characters of a routing key (AMQP 0-9-1's short string), and headers that a binding asks for. */
export const ROUTING_KEY_LENGTH_MAX = 255;
export const BINDING_HEADERS_MAX = 64;
/** Headers of one record that routing looks at. */
export const HEADERS_PER_RECORD_MAX = 256;
/** Messages of one Receive, and of one page of a Browse. */
export const RECEIVE_MESSAGES_MAX = 1_000;
/** Consumers that are connected to one node. */
export const SESSIONS_PER_NODE_MAX = 100_000;
/** Bytes of messages that one answer of a Consume carries, about; a larger message travels alone. */
export const DELIVERY_BYTES_MAX = 512 * 1024;
/** Bytes of batches that a node keeps because consumers will read on in them. */
export const READ_AHEAD_BYTES_MAX = 16 * 1024 * 1024;
/** Of these so many are put together by one node. */
export const WORK_OPERATIONS_BATCH_MAX = 4_096;
/** Queues in which one message may have died before it stays where it is. */
export const DEAD_LETTER_HOPS_MAX = 16;
/** Queues and partitions that one batch may go to. */
export const ROUTES_PER_BATCH_MAX = 16_384;
/** Characters of a policy's pattern. */
export const POLICY_PATTERN_LENGTH_MAX = 512;
/** Characters of a cron expression. */
export const CRON_LENGTH_MAX = 256;
/** Settlements of one frame of a Consume, and of one Settle; and those of one stream that are not yet answered. */
export const CONSUME_FRAME_SETTLEMENTS_MAX = 4_096;
export const SETTLEMENTS_INFLIGHT_MAX = 65_536;
/** Bytes of a page token: a binding's key is the longest place that one stands for. */
export const PAGE_TOKEN_BYTES_MAX = 16 * 1024;
/** Bytes of definitions that one import carries. */
export const DEFINITIONS_BYTES_MAX = 4 * 1024 * 1024;
/** Bindings of one page. */
export const BINDINGS_PER_PAGE_MAX = 1_000;
/** Bytes after which an archive file ends, about; of one read for it; and of one item in it, which is a batch at most. */
export const ARCHIVE_FILE_BYTES_MAX = 64 * 1024 * 1024;
export const ARCHIVE_READ_BYTES = 1024 * 1024;
export const ARCHIVE_ITEM_BYTES_MAX = 8 * 1024 * 1024;
/** Bytes that are worth an archive file when no schedule says when; fewer wait until so many milliseconds are over. */
export const ARCHIVE_BYTES_MIN = 8 * 1024 * 1024;
export const ARCHIVE_WAIT_MS_MAX = 300_000;
/** Milliseconds for which retention makes up for a time that its schedule was due and nobody led the partition. */
export const RETENTION_LATE_MS_MAX = 6 * 3_600_000;
