# Run on the app host: releases whose migrations are odd or broken, as tags of the clone. None of them is deployed but by a case.
# shellcheck shell=bash
set -e
root=~/sparklio_ai_marketing_studio
work=$(mktemp -d)
export GIT_AUTHOR_NAME=Sparklio GIT_AUTHOR_EMAIL=team@sparklio.example GIT_COMMITTER_NAME=Sparklio GIT_COMMITTER_EMAIL=team@sparklio.example
git -C "$root" fetch -q --tags ~/level3.bundle 'refs/tags/*:refs/tags/*'
git -C "$root" worktree add -q --detach "$work/tree" v4.0.20250116-1000
cd "$work/tree/backend/alembic/versions"

# Usage: revision NAME DOWN UPGRADE DOWNGRADE
revision() {
  printf '"""%s."""\n\nfrom alembic import op\n\nrevision = "%s"\ndown_revision = "%s"\nbranch_labels = None\ndepends_on = None\n\n\ndef upgrade() -> None:\n    op.execute("%s")\n\n\ndef downgrade() -> None:\n    op.execute("%s")\n' \
    "$1" "$1" "$2" "$3" "$4" > "$1.py"
}
# Usage: release TAG: commits what is there.
release() {
  git add --all .
  git commit -q --no-verify -m "$1"
  git tag "$1"
}
# Each stands on the one before, so that they can be deployed one after the other.
revision v4_0007_slow v4_0006_plain_emails \
  "CREATE TABLE notes (id serial PRIMARY KEY)" \
  "DROP TABLE notes; SELECT pg_sleep(8) WHERE current_database() ~ 'candidate'"
release v4.0.20250120-1000
revision v4_0008_raises v4_0007_slow "SELECT 1" "DELETE FROM notes; SELECT 1 / 0"
release v4.0.20250120-1100
revision v4_0009_hangs v4_0008_raises "SELECT 1" "DELETE FROM notes; SELECT pg_sleep(600)"
release v4.0.20250120-1200
git checkout -q --detach v4.0.20250116-1000
printf 'def downgrade(:\n' >> v4_0006_plain_emails.py
release v4.0.20250121-1000
git checkout -q --detach v4.0.20250116-1000
cp v4_0005_workflow_paused.py v4_0005_again.py
git rm -q v4_0002_brands.py
release v4.0.20250121-1100
cd ~
git -C "$root" worktree remove --force "$work/tree"
rm -rf "$work"
