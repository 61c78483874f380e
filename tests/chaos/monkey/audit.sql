-- Installed in the private database of a run only: what happens to every row, as the database itself sees it.
CREATE TABLE chaos_atomic (job text NOT NULL);
CREATE TABLE chaos_move (job uuid, was text, became text, attempt int, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE chaos_ticket (job uuid, why text, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE chaos_touched (job uuid, was jsonb, became jsonb, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE chaos_grave (worker uuid, at timestamptz DEFAULT clock_timestamp());

CREATE FUNCTION chaos_watch_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.dispatch_no > 0 THEN INSERT INTO chaos_ticket (job, why) VALUES (NEW.id, 'first'); END IF;
    RETURN NULL;
  END IF;
  IF NEW.state <> OLD.state THEN
    INSERT INTO chaos_move (job, was, became, attempt) VALUES (NEW.id, OLD.state, NEW.state, NEW.attempt);
  ELSIF OLD.dispatched_at IS NOT NULL AND NEW.dispatched_at IS NULL THEN
    INSERT INTO chaos_ticket (job, why) VALUES (NEW.id, 'given back');
  END IF;
  IF OLD.finished_at IS NOT NULL AND to_jsonb(NEW) <> to_jsonb(OLD) THEN
    INSERT INTO chaos_touched (job, was, became) VALUES (NEW.id, to_jsonb(OLD), to_jsonb(NEW));
  END IF;
  IF NEW.dispatch_no > OLD.dispatch_no THEN
    INSERT INTO chaos_ticket (job, why) VALUES (NEW.id,
      CASE WHEN OLD.dispatch_no = 0 THEN 'first' WHEN OLD.dispatched_at IS NULL THEN 'again' ELSE 'lost' END);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_watch_job AFTER INSERT OR UPDATE ON jobs_job FOR EACH ROW EXECUTE FUNCTION chaos_watch_job();

CREATE FUNCTION chaos_watch_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos_grave (worker) VALUES (NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_watch_worker AFTER UPDATE OF state ON jobs_worker FOR EACH ROW
  WHEN (NEW.state = 'DEAD' AND OLD.state <> 'DEAD') EXECUTE FUNCTION chaos_watch_worker();
