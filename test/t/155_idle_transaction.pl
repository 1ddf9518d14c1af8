# A session that is idle in a transaction, and a prepared transaction that was forgotten, keep only their
# own pages in the local cache. When there is no space for pages that must be kept, the transaction that
# needs most of them is ended; other sessions continue and can connect.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = trap_store();
my $c = trap_compute($store, 1);

# rows of an eighth of a page each
sub new_table
{
	my ($name, $rows) = @_;
	return "CREATE TABLE $name (id int PRIMARY KEY, n int, pad text); INSERT INTO $name SELECT i, 0, repeat('w', 900) FROM generate_series(1, $rows) i; VACUUM (FREEZE) $name";
}
$c->sql('CREATE TABLE first (i int)');
$c->sql(new_table($_->[0], $_->[1])) for [ 'work', 3000 ], [ 'shared', 3000 ], [ 'large', 5000 ], [ 'small', 2000 ];
$c->sql('CREATE USER app; GRANT ALL ON ALL TABLES IN SCHEMA public TO app');
# evicts everything from shared buffers
my $evict = "SELECT pg_prewarm('small') \\g /dev/null\n";

# 1 MB of slots, and 8 MB of additional space
$c->stop;
$c = trap_compute($store, 0, "pageserver_smgr.cache_limit = 9MB\n");
my $kept = 'SELECT kept / 8192 FROM pageserver_smgr_cache';
my $observer = session($c);

# Runs transactions of two commands each that change 10 MB; the changes are written out at once.
sub work
{
	my ($s) = @_;
	for my $i (0 .. 5)
	{
		my ($from, $to) = ($i * 500 + 1, $i * 500 + 500);
		$s->ask("BEGIN; INSERT INTO first VALUES (1); UPDATE work SET n = n + 1 WHERE id BETWEEN $from AND $to; COMMIT; $evict");
	}
	return $s->errors;
}

sub is_not_kept
{
	my ($what) = @_;
	wait_for("$what: pages to be released", sub {
		$observer->ask('SELECT pageserver_smgr_clear_cache()');
		return $observer->ask($kept) < 40;
	});
	pass("$what: pages of other transactions are not kept");
}

my $worker = session($c);
my $n = 0;
my %holder = (
	'idle in a transaction' => "BEGIN; INSERT INTO first VALUES (2); INSERT INTO first VALUES (3)",
	'idle with many subtransactions' => "BEGIN; INSERT INTO first VALUES (2);" . join('', map { "SAVEPOINT s$_; INSERT INTO first VALUES ($_);" } 1 .. 100),
	'idle after taking subtransactions back' => "BEGIN; INSERT INTO first VALUES (2);" . join('', map { "SAVEPOINT s$_; INSERT INTO first VALUES ($_); ROLLBACK TO s$_;" } 1 .. 100));
for my $what (sort keys %holder)
{
	my $idle = session($c);
	$idle->ask($holder{$what});
	$idle->ask("DECLARE c CURSOR FOR SELECT i FROM first; INSERT INTO first VALUES (4)");
	my $rows = $what =~ /many/ ? 101 + $n * 6 : $what =~ /taking/ ? 1 + $n * 6 : 2 + $n * 6;
	is(work($worker), '', "$what: other sessions continue");
	$n++;
	is_not_kept($what);
	is(scalar(split /\n/, $idle->ask('FETCH ALL FROM c')), $rows, "$what: its own rows are as it left them, for its cursor");
	is($idle->errors, '', "$what: its session continues");
	$idle->ask('ROLLBACK');
	$idle->close;
}

$c->sql("BEGIN; INSERT INTO first VALUES (5); INSERT INTO first VALUES (6); UPDATE first SET i = 7 WHERE i = 6; PREPARE TRANSACTION 'forgotten'");
is(work($worker), '', 'a forgotten prepared transaction: other sessions continue');
$n++;
is_not_kept('a forgotten prepared transaction');
$c->sql("ROLLBACK PREPARED 'forgotten'");

# ---- multixacts: the checkpointer cannot know which member has changed the row ----
{
	my $idle = session($c);
	my $locker = session($c);
	$idle->ask('BEGIN; INSERT INTO first VALUES (2); UPDATE first SET i = 3 WHERE i = -1');
	for my $i (0 .. 4)
	{
		my ($from, $to) = ($i * 600 + 1, $i * 600 + 600);
		$locker->ask("BEGIN; SELECT count(*) FROM (SELECT 1 FROM shared WHERE id BETWEEN $from AND $to FOR KEY SHARE) x");
		$worker->ask("BEGIN; INSERT INTO first VALUES (1); UPDATE shared SET n = n + 1 WHERE id BETWEEN $from AND $to; CHECKPOINT; COMMIT");
		$locker->ask("COMMIT; $evict");
	}
	is($worker->errors . $locker->errors, '', 'updates of rows that others lock cause no error');
	is_not_kept('multixacts');
	# The pages that the updating transaction has changed are kept.
	$locker->ask("BEGIN; SELECT count(*) FROM (SELECT 1 FROM shared WHERE id <= 300 FOR KEY SHARE) x");
	$worker->ask("BEGIN; INSERT INTO first VALUES (1); DECLARE c CURSOR FOR SELECT id, n FROM shared WHERE id <= 300 ORDER BY id;"
		  . " UPDATE shared SET n = -1 WHERE id <= 300; CHECKPOINT");
	$locker->ask('COMMIT');
	$observer->ask(churn()) for 1 .. 3;
	unlike($worker->ask('FETCH ALL FROM c'), qr/-1/, 'a cursor of the updating transaction sees the rows as they were');
	$worker->ask('ROLLBACK');
	$idle->ask('ROLLBACK');
	$_->close for $idle, $locker;
}

# ---- no space: the transaction that has changed most is ended ----
my $small = session($c);
$small->ask('BEGIN; INSERT INTO first VALUES (2); INSERT INTO first VALUES (3)');
for my $state ('idle', 'at work')
{
	my $large = session($c);
	$large->ask('BEGIN; INSERT INTO first VALUES (2)');
	$large->ask("UPDATE large SET n = n + 1 WHERE id <= 2600; $evict");
	is($large->errors, '', "$state: a transaction has changed as much as there is space for");
	cmp_ok($observer->ask($kept), '>', 500, "$state: the changed pages are kept");
	$large->send('SELECT pg_sleep(600)') if $state ne 'idle';
	my $other = session($c);
	$other->ask("BEGIN; INSERT INTO first VALUES (2); UPDATE large SET n = n + 1 WHERE id BETWEEN 2601 AND 4600; $evict COMMIT");
	is($other->errors, '', "$state: another transaction finds space");
	if ($state eq 'idle')
	{
		wait_for('the end of the session', sub { $observer->ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $large->{pid}") eq '0' });
		like($c->log_content, qr/FATAL:  terminating connection because its transaction has changed too many pages/, "$state: the session of the large one is ended, and the log says why");
		# psql exits when it notices the end of its session.
		eval { $large->send('SELECT 1'); $large->{h}->finish; };
	}
	else
	{
		$large->result;
	}
	like($large->errors, qr/because its transaction has changed too many pages/, "$state: the client's message says why");
	like($c->log_content, qr/LOG:  local page cache is full, canceling transaction \d+ of process $large->{pid}/, "$state: the log names the process");
	$_->close for $state eq 'idle' ? $other : ($large, $other);
}
is($small->ask('COMMIT; SELECT count(*) FROM first WHERE i = 3'), '1', 'a small transaction that is older is not ended');
is($small->errors, '', 'the small transaction commits');

# ---- a transaction whose pages alone need the space fails, and no other ----
my $app = session($c, 'app');
$app->ask('BEGIN; INSERT INTO first VALUES (2); UPDATE large SET n = n + 1');
like($app->errors, qr{page cache is full of pages that must stay in it|has changed too many pages}, 'a transaction that is too large fails');
for my $i (1 .. 5)
{
	$app->ask("ROLLBACK; BEGIN; INSERT INTO first VALUES (2); UPDATE large SET n = n + 1 WHERE id <= 2600; $evict");
	my @new = map { session($c, $_) } 'postgres', 'app';
	$_->ask("UPDATE large SET n = n WHERE id = $i + 4000; $evict") for @new;
	is(join('', map { $_->errors } @new), '', "sessions that start find what they need ($i)");
	$_->close for @new;
}
$app->ask('ROLLBACK');
$_->close for $app, $worker, $observer, $small;
$c->stop;
$store->stop;
done_testing();
