/* SPDX-License-Identifier: Apache-2.0 */

/* One conversation: the daemon speaks, the user answers, and this file carries
 * the words. It answers a question itself only from what an earlier module, or
 * the earlier pass of a password change, has left with PAM. */

#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

/* More turns than this no sensible dialogue has; with "still at it" every few
 * seconds it is an hour. */
#define MAX_TURNS 1024

/* What goes on during one conversation. */
struct talk {
        pam_handle_t *pamh;
        const struct lk_options *options;
        enum lk_purpose purpose;
        bool password_used; /* PAM_AUTHTOK answers the first question for it only */
};

void lk_ending_free(struct lk_ending *e) {
        if (e->ccache) {
                explicit_bzero(e->ccache, e->ccache_size);
                free(e->ccache);
        }
        *e = (struct lk_ending) {0};
}

static void put_item(struct lk_buffer *b, unsigned field, pam_handle_t *pamh, int item) {
        const void *value = NULL;

        if (pam_get_item(pamh, item, &value) == PAM_SUCCESS && value)
                lk_put_bytes(b, field, value, strnlen(value, LK_MAX_ITEM));
}

static bool is_question(enum lk_kind kind) {
        return kind >= LK_ASK_SHOWN;
}

static int style_of(enum lk_kind kind) {
        switch (kind) {
        case LK_INFO:
                return PAM_TEXT_INFO;
        case LK_ERROR:
                return PAM_ERROR_MSG;
        case LK_ASK_SHOWN:
                return PAM_PROMPT_ECHO_ON;
        default:
                return PAM_PROMPT_ECHO_OFF;
        }
}

static const char *item(struct talk *t, int which) {
        const void *value = NULL;

        return pam_get_item(t->pamh, which, &value) == PAM_SUCCESS ? value : NULL;
}

/* What PAM knows already as the answer to a question; NULL in *ret: the user has
 * to be asked. */
static enum lk_result known(struct talk *t, enum lk_kind kind, const char **ret) {
        const struct lk_options *o = t->options;

        *ret = NULL;
        switch (kind) {
        case LK_ASK_PASSWORD:
                if ((o->use_first_pass || o->try_first_pass) && !t->password_used)
                        *ret = item(t, PAM_AUTHTOK);
                t->password_used = true;
                return *ret || !o->use_first_pass ? LK_OK : LK_NO_PASSWORD;
        case LK_ASK_CURRENT:
                if (t->purpose == LK_PASSWORD_CHANGE || o->use_first_pass || o->try_first_pass)
                        *ret = item(t, PAM_OLDAUTHTOK);
                return *ret || !o->use_first_pass ? LK_OK : LK_NO_PASSWORD;
        case LK_ASK_NEW:
                /* libpam has wiped what it was at the sign-in: what is there, an
                 * earlier module has asked for. */
                if (t->purpose == LK_PASSWORD_CHANGE)
                        *ret = item(t, PAM_AUTHTOK);
                return *ret || !o->use_authtok ? LK_OK : LK_NO_PASSWORD;
        default:
                return LK_OK;
        }
}

/* Leaves an answer where the modules after us look for it. */
static void remember(struct talk *t, enum lk_kind kind, const char *answer) {
        if (kind == LK_ASK_PASSWORD || kind == LK_ASK_NEW)
                (void) pam_set_item(t->pamh, PAM_AUTHTOK, answer);
        else if (kind == LK_ASK_CURRENT)
                (void) pam_set_item(t->pamh, PAM_OLDAUTHTOK, answer);
}

static void free_responses(struct pam_response *responses, int count) {
        if (!responses)
                return;
        for (int i = 0; i < count; i++) {
                if (!responses[i].resp)
                        continue;
                explicit_bzero(responses[i].resp, strlen(responses[i].resp));
                free(responses[i].resp);
        }
        free(responses);
}

/* Has the application show count messages. Several at once, so that a text and
 * the question it belongs to reach the user together. */
static enum lk_result converse(struct talk *t, const struct pam_message *messages, int count, struct pam_response **ret) {
        const struct pam_message *pointers[LK_MAX_LINES];
        const void *value = NULL;
        const struct pam_conv *conv;
        int r;

        *ret = NULL;
        if (pam_get_item(t->pamh, PAM_CONV, &value) != PAM_SUCCESS || !value)
                return LK_CONVERSATION;
        conv = value;
        if (!conv->conv)
                return LK_CONVERSATION;
        for (int i = 0; i < count; i++)
                pointers[i] = &messages[i];
        r = conv->conv(count, pointers, ret, conv->appdata_ptr);
        if (r == PAM_SUCCESS && *ret)
                return LK_OK;
        /* Whether responses that come with an error are there is not said
         * anywhere; libpam's own callers leave them. */
        *ret = NULL;
        if (r == PAM_CONV_AGAIN)
                return LK_LATER;
        return r == PAM_BUF_ERR ? LK_NO_MEMORY : LK_CONVERSATION;
}

/* Shows the lines of a turn and puts the answers to its questions into reply. */
static enum lk_result show(struct talk *t, const struct lk_turn *turn, struct lk_buffer *reply) {
        struct pam_message messages[LK_MAX_LINES];
        const char *answers[LK_MAX_LINES] = {0};
        int place[LK_MAX_LINES]; /* of a line among the messages; -1: not shown */
        struct pam_response *responses = NULL;
        enum lk_result r = LK_OK;
        int count = 0;

        for (size_t i = 0; i < turn->count && r == LK_OK; i++) {
                const struct lk_line *line = &turn->lines[i];
                char *text;

                place[i] = -1;
                if (is_question(line->kind)) {
                        r = known(t, line->kind, &answers[i]);
                        if (r != LK_OK || answers[i])
                                continue;
                } else if (t->options->silent)
                        continue;
                text = strndup((const char *) line->text.at, line->text.size);
                if (!text) {
                        r = LK_NO_MEMORY;
                        break;
                }
                messages[count] = (struct pam_message) {.msg_style = style_of(line->kind), .msg = text};
                place[i] = count++;
        }
        if (r == LK_OK && count > 0)
                r = converse(t, messages, count, &responses);
        for (size_t i = 0; i < turn->count && r == LK_OK; i++) {
                const struct lk_line *line = &turn->lines[i];
                const char *answer = answers[i];

                if (!is_question(line->kind))
                        continue;
                if (place[i] >= 0) {
                        answer = responses[place[i]].resp;
                        if (!answer || strlen(answer) > LK_MAX_REPLY)
                                r = LK_CONVERSATION;
                        else
                                remember(t, line->kind, answer);
                } else if (strlen(answer) > LK_MAX_REPLY)
                        r = LK_NO_PASSWORD;
                if (r == LK_OK)
                        lk_put_bytes(reply, 1, answer, strlen(answer));
        }
        free_responses(responses, count);
        for (int i = 0; i < count; i++)
                free((char *) messages[i].msg);
        return r;
}

/* Ids of the system's own, of systemd's dynamic users and containers, and of
 * nobody are no user's of a domain. */
static bool is_reserved(uint32_t id) {
        return id < 1000 || (id >= 61184 && id <= 65519) || id == 65534 || id == 65535 || id == UINT32_MAX;
}

/* Who is let in has a name and numbers that somebody may have. The passes of a
 * password change end without any. */
static enum lk_result end(enum lk_purpose purpose, const struct lk_turn *turn, struct lk_ending *ret) {
        *ret = (struct lk_ending) {.outcome = turn->outcome, .uid = turn->uid, .gid = turn->gid};
        if (turn->outcome != LK_SUCCESS || purpose == LK_PASSWORD_CHECK || purpose == LK_PASSWORD_CHANGE)
                return LK_OK;
        if (turn->name.size == 0 || is_reserved(turn->uid) || is_reserved(turn->gid))
                return LK_BROKEN;
        memcpy(ret->name, turn->name.at, turn->name.size);
        if (turn->ccache.size == 0)
                return LK_OK;
        ret->ccache = malloc(turn->ccache.size);
        if (!ret->ccache)
                return LK_NO_MEMORY;
        memcpy(ret->ccache, turn->ccache.at, turn->ccache.size);
        ret->ccache_size = turn->ccache.size;
        return LK_OK;
}

enum lk_result lk_talk(pam_handle_t *pamh, enum lk_purpose purpose, const char *name, const struct lk_options *o, struct lk_ending *ret) {
        struct talk t = {.pamh = pamh, .options = o, .purpose = purpose};
        struct lk_buffer words = {0};
        const char *method = "Begin";
        struct lk_door door;
        enum lk_result r = lk_door_open(&door);

        *ret = (struct lk_ending) {0};
        lk_put_number(&words, 1, purpose);
        lk_put_bytes(&words, 2, name, strlen(name));
        put_item(&words, 3, pamh, PAM_SERVICE);
        put_item(&words, 4, pamh, PAM_TTY);
        put_item(&words, 5, pamh, PAM_RHOST);
        put_item(&words, 6, pamh, PAM_RUSER);
        for (unsigned turns = 0; r == LK_OK; turns++) {
                struct lk_bytes payload;
                struct lk_turn turn;

                if (turns == MAX_TURNS) {
                        r = LK_BROKEN;
                        break;
                }
                r = lk_door_call(&door, method, &words, &payload);
                lk_buffer_free(&words);
                if (r != LK_OK)
                        break;
                if (!lk_read_turn(&turn, payload)) {
                        r = LK_BROKEN;
                        break;
                }
                r = show(&t, &turn, &words);
                if (turn.done) {
                        /* The last word stands, whether or not it could be shown. */
                        r = end(purpose, &turn, ret);
                        break;
                }
                method = "Tell";
        }
        lk_buffer_free(&words);
        lk_door_close(&door);
        if (r != LK_OK)
                lk_ending_free(ret);
        return r;
}
