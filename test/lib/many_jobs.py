"""A store with very many finished jobs, without running them: rows of one that ended, copied while no gateway has the file."""
import contextlib
import pathlib
import sqlite3
import uuid

TABLES = ["job_docs", "job_history", "attempts", "timeline", "outputs"]


def columns(db, table):
    return [row[1] for row in db.execute("PRAGMA table_info(%s)" % table)]


def multiply(data, count):
    """The newest job that ended, so many times more, each a millisecond younger than the one before. Their ids."""
    ids = []
    with contextlib.closing(sqlite3.connect(pathlib.Path(data) / "comfymux.db")) as db, db:
        names = columns(db, "jobs")
        row = dict(zip(names, db.execute("SELECT * FROM jobs WHERE fin IS NOT NULL ORDER BY fin DESC LIMIT 1").fetchone()))
        seq, fin = row["seq"], row["fin"]
        assert seq == db.execute("SELECT max(seq) FROM jobs").fetchone()[0], "it is not the newest of all"
        jobs = []
        for i in range(1, count + 1):
            ids.append(str(uuid.UUID(int=uuid.UUID(row["id"]).int + i)))
            jobs.append({**row, "seq": seq + i, "id": ids[-1], "fin": fin + i, "hist": row["hist"] and row["hist"] + i, "key": None,
                         **{k: row[k] + i for k in ("created_at", "started_at", "finished_at", "state_at")}})
        db.executemany("INSERT INTO jobs VALUES (%s)" % ", ".join(":" + n for n in names), jobs)
        for table in TABLES:
            rest = [n for n in columns(db, table) if n != "seq"]
            db.executemany("INSERT INTO %s (seq, %s) SELECT ?, %s FROM %s WHERE seq = ?"
                           % (table, ", ".join(rest), ", ".join(rest), table), [(seq + i, seq) for i in range(1, count + 1)])
    return ids
