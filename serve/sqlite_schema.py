"""The SQLite tables beside the log's: all of them are folds of the log.

They are in the log's database, so a record and its effects commit in one transaction. Each
statement can be run again without effect.
"""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS users (
        user_id TEXT PRIMARY KEY,
        user TEXT NOT NULL UNIQUE
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS user_state (user TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS items (
        number INTEGER PRIMARY KEY,
        item_id TEXT NOT NULL UNIQUE,
        item BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS removed_items (item_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    """CREATE VIRTUAL TABLE IF NOT EXISTS item_search USING fts5(
        item_id, title, creator, tags, tokenize = 'unicode61 remove_diacritics 2'
    )""",
    """CREATE TABLE IF NOT EXISTS versions (
        version INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        log_offset INTEGER NOT NULL,
        digest TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS versions_current ON versions (epoch, version)",
    "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    """INSERT OR IGNORE INTO marks
        VALUES ('catalogue', 0), ('epoch', 0), ('vectors', 0), ('vector_length', 0)""",
    # One row at most; see `serve.imported`.
    """CREATE TABLE IF NOT EXISTS imported_world (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        about BLOB NOT NULL,
        people BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS ranker_moves (
        move INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        digest TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS totals (
        name TEXT NOT NULL,
        label TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (name, label)
    ) STRICT, WITHOUT ROWID""",
)
