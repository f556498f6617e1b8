-- The database role of the public unsubscribe function, which anyone on the internet can make run: it can read
-- addresses only where it must, sees no content, and cannot change what it has no business with.
--
--   psql "$DATABASE_URL" -v role=sendledger_unsubscribe -f docs/unsubscribe-database-role.sql
--
-- Run it again after an upgrade of the database; then deploy with UnsubscribeDatabaseUser=sendledger_unsubscribe.

SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec

-- On RDS with IAM authentication: the role gets its password from IAM.
SELECT format('GRANT rds_iam TO %I', :'role') WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') \gexec

GRANT USAGE ON SCHEMA public TO :"role";
-- To find the address, and what is still planned for it. Rows are locked by those who may update a column.
GRANT SELECT (id, email), UPDATE (updated_at) ON leads TO :"role";
GRANT SELECT (lead_id, scheduled_email_id, to_address, delivery_status) ON emails TO :"role";
GRANT SELECT (id, emails_unsubscribed_count), UPDATE (emails_unsubscribed_count) ON campaigns TO :"role";
GRANT SELECT (id, lead_id, campaign_id, status, reason), UPDATE (status, reason, updated_at) ON scheduled_emails TO :"role";
-- To opt out, to take it back, and to write it down.
GRANT SELECT, INSERT, UPDATE ON suppressions, unsubscribes TO :"role";
GRANT INSERT, SELECT (id) ON audit_log TO :"role";
