"""The guards themselves: what is missing is named, later migrations keep them, and nobody lifts them in earnest."""

import sqlite3
from contextlib import closing, suppress

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import DatabaseError, connection, connections, migrations, models, transaction
from django.db.backends.sqlite3 import schema
from django.db.migrations.loader import MigrationLoader

from tests import factories
from tests.factories import acting, case_consented, make_batch
from unlocks import checks, operations
from unlocks.database import guards
from unlocks.database.guards import declared
from unlocks.models import Batch
from unlocks.rules import Refusal


def run(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def trigger_of(table):
    return next(name for name in sorted(guards.expected()) if table in name)


@pytest.mark.django_db
class TestMissing:
    def test_nothing_after_migrate(self):
        assert guards.missing() == []

    @pytest.mark.sqlite
    def test_names_one_that_is_absent(self):
        run("DROP TRIGGER unlocks_guard_batch_unlocked_only_with_consent")
        assert guards.missing() == ["unlocks_guard_batch_unlocked_only_with_consent"]

    @pytest.mark.sqlite
    def test_names_one_that_was_altered(self):
        run(
            "DROP TRIGGER unlocks_guard_terms_frozen",
            "CREATE TRIGGER unlocks_guard_terms_frozen AFTER UPDATE ON unlocks_consentterms BEGIN SELECT 1; END",
        )
        assert guards.missing() == ["unlocks_guard_terms_frozen"]

    @pytest.mark.postgresql
    @pytest.mark.parametrize(
        "statement",
        [
            "DROP TRIGGER {name} ON unlocks_ledgerentry",
            "DROP FUNCTION {name} CASCADE",
            "ALTER TABLE unlocks_ledgerentry DISABLE TRIGGER {name}",
            "ALTER TABLE unlocks_ledgerentry DISABLE TRIGGER ALL",
            "ALTER TABLE unlocks_ledgerentry ENABLE TRIGGER {name}",
            "ALTER FUNCTION {name} SECURITY INVOKER",
            "ALTER FUNCTION {name} RESET search_path",
            "ALTER FUNCTION {name} STABLE",
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            "SET search_path = public, pg_temp AS 'BEGIN RETURN NULL; END'",
            "CREATE OR REPLACE TRIGGER {name} BEFORE DELETE OR UPDATE OF actor OR TRUNCATE ON unlocks_ledgerentry "
            "FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
            "CREATE OR REPLACE TRIGGER {name} BEFORE UPDATE ON unlocks_ledgerentry "
            "FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
        ],
    )
    def test_names_one_that_is_absent_disabled_or_altered(self, statement):
        run(statement.format(name="unlocks_guard_unlocks_ledgerentry_grows"))
        assert "unlocks_guard_unlocks_ledgerentry_grows" in guards.missing()

    @pytest.mark.sqlite
    @pytest.mark.parametrize(
        ("statements", "named"),
        [
            (["CREATE TEMP TRIGGER mine BEFORE UPDATE ON unlocks_batch BEGIN SELECT 1; END"], "temporary trigger mine"),
            (["CREATE TRIGGER mine AFTER UPDATE ON unlocks_batch BEGIN SELECT RAISE(IGNORE); END"], "mine"),
            (["DROP INDEX unlocks_line_one_open_request"], "unlocks_line_one_open_request"),
            (
                [
                    "DROP INDEX unlocks_line_one_open_request",
                    "CREATE UNIQUE INDEX unlocks_line_one_open_request ON unlocks_requestedbatch (batch_id) "
                    "WHERE outcome = 'waiting'",
                ],
                "unlocks_line_one_open_request",
            ),
            (
                [
                    "ALTER TABLE unlocks_resentreceipt RENAME TO elsewhere",
                    "CREATE VIEW unlocks_resentreceipt AS SELECT * FROM elsewhere",
                ],
                "unlocks_resent_token_once",
            ),
        ],
        ids=["temporary trigger", "trigger", "index dropped", "index altered", "view in the place"],
    )
    def test_names_what_blinds_them_on_sqlite(self, statements, named):
        run(*statements)
        assert named in guards.missing()

    @pytest.mark.postgresql
    @pytest.mark.parametrize(
        ("statements", "named"),
        [
            (
                [
                    "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
                    "CREATE TRIGGER mine BEFORE UPDATE ON unlocks_batch FOR EACH ROW EXECUTE FUNCTION mine()",
                ],
                ["trigger mine on unlocks_batch"],
            ),
            (
                [
                    "CREATE OR REPLACE TRIGGER unlocks_guard_unlocks_batch_update AFTER UPDATE ON unlocks_batch "
                    "REFERENCING NEW TABLE AS old_rows OLD TABLE AS new_rows FOR EACH STATEMENT "
                    "EXECUTE FUNCTION unlocks_guard_unlocks_batch_update()",
                ],
                ["unlocks_guard_unlocks_batch_update"],
            ),
            (
                [
                    "CREATE TRIGGER unlocks_guard_unlocks_batch_update AFTER UPDATE ON unlocks_account "
                    "REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT "
                    "EXECUTE FUNCTION unlocks_guard_unlocks_batch_update()",
                ],
                ["trigger unlocks_guard_unlocks_batch_update on unlocks_account"],
            ),
            (["CREATE RULE mine AS ON INSERT TO unlocks_verdict DO INSTEAD NOTHING"], ["rule mine on unlocks_verdict"]),
            (["CREATE POLICY mine ON unlocks_batch USING (false)"], ["policy mine on unlocks_batch"]),
            (["ALTER TABLE unlocks_batch ENABLE ROW LEVEL SECURITY"], ["row security on unlocks_batch"]),
            (
                ["CREATE TABLE more () INHERITS (unlocks_consentwithdrawal)"],
                ["table more inherits from unlocks_consentwithdrawal"],
            ),
            (
                ["GRANT TRUNCATE, TRIGGER ON unlocks_batch TO PUBLIC"],
                ["trigger on unlocks_batch granted to PUBLIC", "truncate on unlocks_batch granted to PUBLIC"],
            ),
            (
                ["GRANT EXECUTE ON FUNCTION unlocks_guard_unlocks_batch_update() TO PUBLIC"],
                ["unlocks_guard_unlocks_batch_update"],
            ),
            (
                [
                    "CREATE FUNCTION yes(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true'",
                    "CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = yes)",
                ],
                [
                    "function yes(character varying,character varying)",
                    "operator =(character varying,character varying)",
                ],
            ),
            (
                ["ALTER TABLE unlocks_batch DROP CONSTRAINT unlocks_batch_grant_iff_unlocked"],
                ["unlocks_batch_grant_iff_unlocked"],
            ),
            (
                [
                    "ALTER TABLE unlocks_batch DROP CONSTRAINT unlocks_batch_exported_has_day",
                    "ALTER TABLE unlocks_batch ADD CONSTRAINT unlocks_batch_exported_has_day CHECK "
                    "(status <> 'exported' OR exported_on IS NOT NULL OR true)",
                ],
                ["unlocks_batch_exported_has_day"],
            ),
            (["DROP INDEX unlocks_line_one_open_request"], ["unlocks_line_one_open_request"]),
            (
                ["ALTER TABLE unlocks_account DROP CONSTRAINT unlocks_account_number_key"],
                ["unique unlocks_account.number"],
            ),
        ],
    )
    def test_names_what_blinds_them_on_postgresql(self, statements, named):
        connection.check_constraints()
        run("SET CONSTRAINTS ALL IMMEDIATE", *statements)
        assert guards.missing() == named

    def test_names_all_of_them_when_lifted(self):
        with guards.lifted():
            assert guards.missing() == sorted(guards.expected())
        assert guards.missing() == []

    def test_unlock_refuses_then(self, agent):
        case = case_consented(agent)
        connection.check_constraints()
        with guards.lifted(), pytest.raises(operations.Refused) as refused:
            factories.unlock(case.rows, by=acting(agent))
        assert refused.value.code == Refusal.GUARDS_MISSING
        assert not Batch.objects.filter(status="unlocked").exists()

    def test_deployment_check_refuses_then(self):
        assert checks.guards_in_place(None) == []
        with guards.lifted():
            (error,) = [error for error in run_checks(include_deployment_checks=True) if error.id == "unlocks.E002"]
            assert trigger_of("unlocks_batch") in error.msg
        assert "unlocks.E002" not in {error.id for error in run_checks()}

    def test_migrate_puts_them_back(self):
        connection.check_constraints()
        guards.remove()
        guards.after_migrate(sender=None, using="default")
        assert guards.missing() == []


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["unlock_desk", "desk.sqlite3", "/var/test_desks/desk.sqlite3", "latest_desk"])
def test_nobody_lifts_them_in_earnest(monkeypatch, name):
    monkeypatch.setitem(connection.settings_dict, "NAME", name)
    with pytest.raises(RuntimeError, match="disposable"):
        guards.remove()
    with pytest.raises(RuntimeError, match="disposable"), guards.lifted():
        pass
    assert guards.missing() == []


@pytest.fixture
def scratch(db, tmp_path):
    """A database to migrate further: a copy of the file on SQLite, which rebuilds tables outside transactions only."""
    connections["scratch"] = connection
    if connection.vendor == "sqlite":
        path = tmp_path / "test_copy.sqlite3"
        file = connection.settings_dict["NAME"]
        with closing(sqlite3.connect(file)) as committed, closing(sqlite3.connect(path)) as copy:
            committed.backup(copy)
        connections["scratch"] = type(connections["default"])(connection.settings_dict | {"NAME": str(path)})
    yield connections["scratch"]
    if connection.vendor == "sqlite":
        connections["scratch"].close()
    del connections["scratch"]


def migrate_further(scratch, *changes):
    """Carry out a migration's operations as `migrate` does, but not what comes after it."""
    loader = MigrationLoader(scratch)
    state = loader.project_state(loader.graph.leaf_nodes("unlocks"))
    with scratch.schema_editor() as editor:
        for change in changes:
            before, state = state, state.clone()
            change.state_forwards("unlocks", state)
            change.database_forwards("unlocks", editor, before, state)


LATER = {
    "alter_field": [migrations.AlterField("batch", "name", models.CharField(max_length=300, blank=True))],
    "alter_field_others_refer_to": [
        migrations.AlterField("account", "pin_hash", models.CharField(max_length=300, blank=True))
    ],
    "add_field": [migrations.AddField("batch", "memo", models.TextField(default=""))],
    "add_field_null": [migrations.AddField("unlockrequest", "memo", models.TextField(null=True))],
    "remove_field": [
        migrations.AddField("consent", "memo", models.TextField(default="")),
        migrations.RemoveField("consent", "memo"),
    ],
    "rename_field": [migrations.RenameField("contact", "phone", "telephone")],
    "add_constraint": [
        migrations.AddConstraint(
            "batch", models.CheckConstraint(condition=models.Q(item_count__gte=0), name="batch_items_not_negative")
        )
    ],
    "remove_constraint": [migrations.RemoveConstraint("batch", "unlocks_batch_exported_has_day")],
    "add_index": [migrations.AddIndex("batch", models.Index(fields=["name"], name="batch_name"))],
    "alter_unique": [migrations.AlterUniqueTogether("batchitem", {("batch", "id")})],
    "new_model": [migrations.CreateModel("Pack", [("id", models.BigAutoField(primary_key=True))])],
    "history": [migrations.AlterField("historicalbatch", "name", models.CharField(max_length=300, blank=True))],
    "and_back": [
        migrations.RenameModel("Selection", "Picked"),
        migrations.RenameModel("Picked", "Selection"),
    ],
}


@pytest.mark.parametrize("name", LATER)
def test_a_later_migration_keeps_them(scratch, name):
    """SQLite rebuilds a table for most changes, and a rebuilt table has lost its triggers."""
    migrate_further(scratch, *LATER[name])
    assert [name for name in guards.missing("scratch") if name in guards.expected("scratch")] == []


@pytest.mark.sqlite
def test_without_our_schema_editor_a_later_migration_would_lose_them(scratch, monkeypatch):
    monkeypatch.setattr(type(scratch), "SchemaEditorClass", schema.DatabaseSchemaEditor)
    with suppress(DatabaseError):
        migrate_further(scratch, *LATER["history"])
    assert guards.missing("scratch") != []


def test_every_table_is_guarded_or_named_here_as_free():
    guarded = (
        {guard.table for guard in declared.GUARDS} | set(declared.append_only_tables()) | set(declared.NEVER_DELETED)
    )
    tables = {model._meta.db_table for model in apps.get_app_config("unlocks").get_models(include_auto_created=True)}
    assert tables | {"auth_user"} == guarded | {
        "unlocks_searchword",
        "unlocks_selection",
        "unlocks_selection_batches",
        "unlocks_savedview",
        "unlocks_apicall",
        "unlocks_cache",
        "unlocks_casefiles",
        "unlocks_checkattempts",
        "unlocks_desksession",
        "unlocks_stafflink",
        "unlocks_importproblem",
        "unlocks_stagedaccount",
        "unlocks_stagedbatch",
        "unlocks_stagedcontact",
        "unlocks_stageditem",
        "unlocks_stagedlines",
        "unlocks_orderedact",
        "unlocks_worker",
    }


@pytest.fixture
def desk_role(db):
    """A role with what `docs/production.md` grants to the desk; it goes with the test's transaction."""
    run(
        "CREATE ROLE test_desk",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"REVOKE TEMPORARY ON DATABASE {connection.settings_dict['NAME']} FROM PUBLIC",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO test_desk",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO test_desk",
        "SET LOCAL ROLE test_desk",
    )


@pytest.mark.postgresql
class TestTheDesksRole:
    def test_has_no_power_over_the_guards(self, desk_role):
        assert guards.powers() == []
        assert guards.missing() == []
        assert checks.desk_has_no_power(None) == []

    @pytest.mark.parametrize("power", ["TEMPORARY", "CREATE"])
    def test_cannot_run_code_as_the_owner(self, desk_role, power):
        """A guard on a table of one's own would cast its column, with a cast of one's own, as the guard's owner."""
        run("RESET ROLE")
        if power == "TEMPORARY":
            run(
                f"GRANT TEMPORARY ON DATABASE {connection.settings_dict['NAME']} TO test_desk",
                "SET LOCAL ROLE test_desk",
            )
            run("CREATE TEMP TABLE bait (id bigint)")
        else:
            run(
                "GRANT CREATE ON SCHEMA public TO test_desk",
                "SET LOCAL ROLE test_desk",
                "CREATE TABLE bait (id bigint)",
            )
        with pytest.raises(DatabaseError, match="permission denied for function"), transaction.atomic():
            run(
                "CREATE TRIGGER hung AFTER UPDATE ON bait REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows "
                "FOR EACH STATEMENT EXECUTE FUNCTION unlocks_guard_unlocks_batch_update()"
            )
        run("RESET ROLE")

    @pytest.mark.parametrize(
        ("grant", "power"),
        [
            ("GRANT CREATE ON SCHEMA public TO test_desk", "may create in the schema public"),
            ("GRANT CREATE ON DATABASE {database} TO test_desk", "may create schemas"),
            ("GRANT TEMPORARY ON DATABASE {database} TO test_desk", "may create temporary tables"),
            (
                "ALTER TABLE unlocks_act OWNER TO test_desk",
                "owns unlocks_act, or is a member of the role that does",
            ),
        ],
    )
    def test_deployment_check_names_each_power(self, desk_role, grant, power):
        run("RESET ROLE", grant.format(database=connection.settings_dict["NAME"]), "SET LOCAL ROLE test_desk")
        (error,) = checks.desk_has_no_power(None)
        assert (error.id, error.msg) == ("unlocks.E005", f"The desk's database role {power}.")
        run("RESET ROLE")

    def test_deployment_check_names_a_superuser(self, db):
        (error,) = checks.desk_has_no_power(None)
        assert "is a superuser" in error.msg


@pytest.mark.django_db
def test_they_are_installed_twice_without_harm():
    connection.check_constraints()
    guards.install()
    assert guards.missing() == []


@pytest.mark.django_db
def test_a_refusal_says_what_it_is_about():
    batch = make_batch()
    with (
        pytest.raises(DatabaseError, match="A batch cannot move from that status"),
        transaction.atomic(),
    ):
        Batch.objects.filter(pk=batch.pk).update(status="pending")
